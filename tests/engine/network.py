"""A small network with everything that could break equality: convolution, batch norm, dropout; and a run of it under
any strategy.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.engine.base import Engine, Phase, Place
from dlsvc.engine.build import build_engine
from dlsvc.optim.build import build_optimizer
from dlsvc.spec.sections import PhaseOptimSpec
from dlsvc.tasks.base import Companion

GLOBAL_SIZE, STEPS = 32, 6


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(4 * 36, 5)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.dropout(F.relu(self.norm(self.conv(image))).flatten(1)))


@dataclass(frozen=True)
class Setting:
    strategy: str = "ddp"
    micro_size: int = 8
    exact: bool = False
    clip: float | None = None
    ema: float | None = None
    follow: float | None = None
    optim: PhaseOptimSpec = PhaseOptimSpec(lr=2e-3)


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(STEPS, GLOBAL_SIZE, 1, 6, 6, generator=generator)
    return images, torch.randint(0, 5, (STEPS, GLOBAL_SIZE), generator=generator)


def build(setting: Setting, rank: int, world_size: int, seed: int = 0) -> Engine:
    torch.manual_seed(seed)
    network = Network()
    slow = copy.deepcopy(network).requires_grad_(False)
    optimizer = build_optimizer(setting.optim, list(network.named_parameters()))
    phase = Phase("main", "model", optimizer, lambda step: 1.0, setting.clip, setting.ema)
    return build_engine(
        setting.strategy,
        {"model": network},
        [phase],
        seed=3,
        place=Place(rank, world_size),
        precision="fp32",
        exact=setting.exact,
        num_atoms=GLOBAL_SIZE // setting.micro_size,
        micro_size=setting.micro_size,
        companions={"slow": Companion(slow, "model", setting.follow)} if setting.follow is not None else {},
    )


def advance(engine: Engine, setting: Setting, start: int = 0, stop: int = STEPS, *, watched: bool = False) -> None:
    images, labels = data()
    atoms, world, rank = GLOBAL_SIZE // setting.micro_size, engine.place.world_size, engine.place.rank
    for step in range(start, stop):
        engine.begin("main", watched=watched)
        for turn in range(-(-atoms // world)):
            atom = turn * world + rank if turn * world + rank < atoms else None
            weight = setting.micro_size / GLOBAL_SIZE if atom is not None else 0.0
            first = (atom or 0) * setting.micro_size
            part = slice(first, first + setting.micro_size)
            with engine.forward("main", step, atom, weight):
                loss = F.cross_entropy(engine.modules("main")["model"](images[step, part]), labels[step, part])
            engine.backward("main", loss, weight)
        engine.step("main", step)


def whole(engine: Engine) -> dict[str, Tensor]:
    """Weights, averages and statistics of all ranks, put together from the slots, and what no optimizer holds."""
    mine: list[Any] = [
        (slot.name, slot.start, slot.view(slot.owner).cpu().clone(), None if average is None else average.cpu())
        for slot, _, average in engine.slots()
    ]
    everyone: list[Any] = [mine]
    if engine.place.world_size > 1:
        everyone = [None] * engine.place.world_size
        dist.all_gather_object(everyone, mine)
    found = {name: torch.zeros(torch.Size(shape).numel()) for name, shape in engine.shapes().items()}
    averages = {f"{name} average": torch.zeros_like(value) for name, value in found.items()}
    for name, start, values, average in (item for share in everyone for item in share):
        found[name][start : start + len(values)] = values
        if average is not None:
            averages[f"{name} average"][start : start + len(values)] = average
    found |= engine.untrained()
    found |= averages | engine.buffers()
    return {name: value.cpu().clone() for name, value in found.items()}


def digest(engine: Engine) -> str:
    tensors = whole(engine)
    return hashlib.sha256(b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors))).hexdigest()


def trained(rank: int, world_size: int, settings: list[Setting]) -> list[str]:
    """The digest after a run, for each setting, in one process group."""
    found = []
    for setting in settings:
        engine = build(setting, rank, world_size)
        advance(engine, setting)
        found.append(digest(engine))
    return found
