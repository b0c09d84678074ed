"""A few steps of a registered model at its tiny size under any strategy, on any device."""

from __future__ import annotations

import torch

from dlsvc.data.tensors import to_tensors
from dlsvc.engine.base import Phase, Place
from dlsvc.engine.build import build_engine
from dlsvc.train.meter import Meter
from dlsvc.train.objective import Atom, run_phase
from tests.engine.network import digest
from tests.models.every import build

STRATEGIES = ("ddp", "fsdp", "zero1", "zero2", "zero3")
NUM_ATOMS, MICRO_SIZE, STEPS = 4, 4, 3


def digest_after_steps(name: str, strategy: str, place: Place, *, precision: str = "fp32") -> str:
    """Of the model after a few steps, each rank computing every world_size-th atom."""
    subject = build(name, num_samples=NUM_ATOMS * MICRO_SIZE)
    task = subject.task
    for module in (subject.model, *(companion.module for companion in subject.companions.values())):
        module.to(place.device)
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
        place=place,
        precision=precision,
        exact=False,
        num_atoms=NUM_ATOMS,
        micro_size=MICRO_SIZE,
        companions=subject.companions,
    )
    meter = Meter(place.device)
    own = range(place.rank, NUM_ATOMS, place.world_size)
    rows = [slice(a * MICRO_SIZE, (a + 1) * MICRO_SIZE) for a in own]
    cut = [to_tensors({k: v[part].numpy() for k, v in subject.batch.items()}, place.device) for part in rows]
    atoms = [Atom(index, 1 / NUM_ATOMS, batch) for index, batch in zip(own, cut, strict=True)]
    for step in range(STEPS):
        for phase in task.phases:
            run_phase(engine, task, atoms, phase=phase, step=step, meter=meter)
            engine.step(phase, step)
        meter.steps += 1
    meter.flush(STEPS, cancelled=False)
    return digest(engine)
