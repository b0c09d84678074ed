"""Every registered model at its tiny size gives the same bits under every strategy."""

from __future__ import annotations

import pytest
import torch

from dlsvc.data.tensors import to_tensors
from dlsvc.engine.base import Phase, Place
from dlsvc.engine.build import build_engine
from dlsvc.train.meter import Meter
from dlsvc.train.objective import Atom, run_phase
from tests.engine.network import digest
from tests.engine.processes import run_group
from tests.models.every import SHAPES, build

STRATEGIES = ("ddp", "fsdp", "zero1", "zero2", "zero3")
NUM_ATOMS, MICRO_SIZE, STEPS = 4, 4, 3


def _digest(rank: int, world_size: int, name: str, strategy: str) -> str:
    """Of the model after a few steps, each rank computing every other atom."""
    subject = build(name, num_samples=NUM_ATOMS * MICRO_SIZE)
    task = subject.task
    phases = []
    for phase in task.phases:
        parameters = [p for p in subject.modules[task.trainable(phase)].parameters() if p.requires_grad]
        optimizer = torch.optim.Adam([{"params": parameters, "base_lr": 1e-3}], 1e-3)
        phases.append(Phase(phase, task.trainable(phase), optimizer, lambda step: 1.0))
    engine = build_engine(
        strategy,
        subject.modules,
        phases,
        seed=0,
        place=Place(rank, world_size),
        precision="fp32",
        exact=False,
        num_atoms=NUM_ATOMS,
        micro_size=MICRO_SIZE,
        companions=subject.companions,
    )
    meter = Meter(torch.device("cpu"))
    own = range(rank, NUM_ATOMS, world_size)
    rows = [slice(a * MICRO_SIZE, (a + 1) * MICRO_SIZE) for a in own]
    cut = [to_tensors({k: v[part].numpy() for k, v in subject.batch.items()}, torch.device("cpu")) for part in rows]
    atoms = [Atom(index, 1 / NUM_ATOMS, batch) for index, batch in zip(own, cut, strict=True)]
    for step in range(STEPS):
        for phase in task.phases:
            run_phase(engine, task, atoms, phase=phase, step=step, meter=meter)
            engine.step(phase, step)
    return digest(engine)


def _digests(rank: int, world_size: int, name: str) -> dict[str, str]:
    torch.use_deterministic_algorithms(True)
    return {strategy: _digest(rank, world_size, name, strategy) for strategy in STRATEGIES}


# Of attention's similarities, which differ in a few parameters, one is enough for every day.
_SLOW = ("vit, dot", "vit, general", "vit, kernel")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in _SLOW else ()) for name in SHAPES]
)
def test_strategies_give_one_digest_at_two_workers(name: str) -> None:
    found = run_group(2, _digests, name)[0]
    assert found == dict.fromkeys(STRATEGIES, found["ddp"])
