"""Ranks that must be equal are compared, so that a fault of reduction ends the run instead of spoiling the model."""

from __future__ import annotations

import torch
import torch.distributed as dist

from dlsvc.engine.base import Engine
from dlsvc.errors import RanksDiverged


def check_ranks(engine: Engine, step: int) -> None:
    """Compare a checksum of everything that each rank holds in full. Raises RanksDiverged on every rank alike."""
    place = engine.place
    if place.world_size == 1:
        return
    mine = engine.checksum()
    everyone = [torch.empty_like(mine) for _ in range(place.world_size)]
    dist.all_gather(everyone, mine)
    sums = [int(value) for value in everyone]
    if len(set(sums)) > 1:
        shown = ", ".join(f"rank {rank}: {value & 0xFFFFFFFFFFFFFFFF:016x}" for rank, value in enumerate(sums))
        raise RanksDiverged(
            f"after step {step} the ranks hold different parameters ({shown}): "
            "gradients were not reduced alike, and the run is stopped"
        )
