"""The engine of a strategy."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from dlsvc.engine.base import Engine, Phase, Place
from dlsvc.nn.device import open_device
from dlsvc.tasks.base import NO_COMPANIONS, Companion


def build_engine(
    strategy: str,
    modules: Mapping[str, nn.Module],
    phases: Sequence[Phase],
    *,
    seed: int,
    place: Place,
    precision: str,
    exact: bool,
    num_atoms: int,
    micro_size: int,
    companions: Mapping[str, Companion] = NO_COMPANIONS,
) -> Engine:
    """Wrap the modules; call it after their weights are loaded, since sharding starts from them."""
    settings: dict[str, Any] = {
        "seed": seed,
        "place": place,
        "precision": precision,
        "exact": exact,
        "num_atoms": num_atoms,
        "companions": companions,
    }
    if strategy == "plain":
        return Engine(modules, phases, **settings)
    if strategy == "ddp":
        from dlsvc.engine.ddp import DDPEngine

        return DDPEngine(modules, phases, **settings)
    if strategy == "fsdp":
        from dlsvc.engine.fsdp import FSDPEngine

        return FSDPEngine(modules, phases, **settings)
    from dlsvc.engine.zero import ZeROEngine

    return ZeROEngine(modules, phases, stage=int(strategy.removeprefix("zero")), micro_size=micro_size, **settings)


def place_of(*, gpu: bool) -> Place:
    """This process's place in the process group that is there, or alone; on a GPU where it asked for one."""
    import torch.distributed as dist

    where = open_device("cuda" if gpu else "cpu", int(os.environ.get("LOCAL_RANK", "0")))
    if not dist.is_initialized():
        return Place(device=where)
    return Place(dist.get_rank(), dist.get_world_size(), where)
