"""What a rank keeps between steps, counted in bytes, against what its strategy should keep."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dlsvc.engine.base import Engine, Phase, Place, local
from dlsvc.engine.build import build_engine
from dlsvc.registry import resolve
from dlsvc.tasks.base import Task
from dlsvc.train.meter import Meter
from dlsvc.train.objective import Atom, run_phase
from tests.engine.processes import run_group

WORLD, FLOAT = 2, 4
# Two trained modules, a frozen third, a companion, and averages: big enough for padding not to count.
SYSTEMS: dict[str, dict[str, Any]] = {
    "gan": {"image_size": 28, "in_channels": 1, "latent_dim": 64, "base_channels": 64},
    "srgan": {"image_size": 16, "scale": 4, "channels": 64, "num_blocks": 2, "base_channels": 32, "dense": 256},
    "latent_diffusion": {
        "image_size": 16,
        "in_channels": 1,
        "latent_scale": 1.0,
        "autoencoder": {"widths": (32, 64), "blocks": 1, "groups": 8, "latent_channels": 4},
        "text": {"vocab_size": 512, "max_seq_len": 8, "d_model": 64, "num_layers": 2, "num_heads": 2},
        "unet": {"widths": (32, 64), "attention": (False, True), "blocks": 1, "head_dim": 16, "groups": 8},
    },
    "blip": {
        "vision": {"image_size": 16, "patch_size": 8, "d_model": 64, "num_layers": 2, "num_heads": 2},
        "text": {"vocab_size": 512, "max_seq_len": 8, "d_model": 64, "num_layers": 2, "num_heads": 2},
    },
}
TASK_ARGS = {"blip": {"queue_size": 8}}


def _kept(rank: int, world: int, strategy: str) -> dict[str, tuple[int, float]]:
    return {name: _bytes_kept(rank, world, strategy, name) for name in SYSTEMS}


def _bytes_kept(rank: int, world: int, strategy: str, name: str) -> tuple[int, float]:
    """What a rank keeps after a step, and what the formula says."""
    before = _storages()
    entry = resolve("model", name)
    model = entry.load()(**SYSTEMS[name])
    task: Task = resolve("task", entry.options["task"]).load()(**TASK_ARGS.get(name, {}))
    modules, companions = task.modules(model), task.companions(model)
    beside = {role: companion.module for role, companion in companions.items()}
    expected = _formula(strategy, task, {**modules, **beside})
    phases = [_phase(task, modules, phase) for phase in task.phases]
    engine = build_engine(
        strategy,
        modules,
        phases,
        seed=0,
        place=Place(rank, world),
        precision="fp32",
        exact=False,
        num_atoms=world,
        micro_size=2,
        companions=companions,
    )
    batch = task.dummy_batch(2, {**{one.name: one.default for one in entry.arguments}, **_whole(entry, SYSTEMS[name])})
    for phase in task.phases:
        run_phase(engine, task, [Atom(rank, 1 / world, batch)], phase=phase, step=0, meter=Meter(torch.device("cpu")))
        engine.step(phase, 0)
    engine.begin(task.phases[0])
    del batch
    gc.collect()
    after = _storages() | _of_engine(engine)
    kept = sum(size for address, size in after.items() if address not in before)
    return kept, expected


def _whole(entry: Any, args: dict[str, Any]) -> dict[str, Any]:
    from tests.models.every import full_arguments

    return full_arguments(entry, args)


def _phase(task: Task, modules: dict[str, nn.Module], phase: str) -> Phase:
    trained = task.trainable(phase)
    parameters = [p for p in modules[trained].parameters() if p.requires_grad]
    optimizer = torch.optim.Adam([{"params": parameters, "base_lr": 1e-3}], 1e-3)
    return Phase(phase, trained, optimizer, lambda step: 1.0, ema_decay=0.9)


def _formula(strategy: str, task: Task, modules: dict[str, nn.Module]) -> float:
    """Bytes a rank: parameters, Adam's two moments and an average of what is trained (P), and what is frozen or follows
    (F).

    ddp keeps 3 P + P / N + F, ZeRO-1 and -2 P + (1 + 2 + 1) P / N + F (their own fp32 copy is the fourth),
    ZeRO-3 the same shared out with its gradients, which stay, and for each trained module a bucket of its largest
    parameter; FSDP keeps (1 + 2 + 1) P / N + F / N. Elsewhere gradients are gone between steps.
    """
    trained = {task.trainable(phase) for phase in task.phases}
    counts = {name: sum(p.numel() for p in module.parameters()) for name, module in modules.items()}
    p, f = sum(counts[name] for name in trained), sum(counts[name] for name in counts if name not in trained)
    largest = sum(max(p.numel() for p in modules[name].parameters()) for name in trained)
    floats = {
        "ddp": 3 * p + p / WORLD + f,
        "fsdp": 4 * p / WORLD + f / WORLD,
        "zero1": p + 4 * p / WORLD + f,
        "zero2": p + 4 * p / WORLD + f,
        "zero3": 6 * p / WORLD + f + largest,
    }
    return FLOAT * floats[strategy]


def _storages() -> dict[int, int]:
    """Every tensor's memory that Python can see, by its address."""
    found: dict[int, int] = {}
    for one in gc.get_objects():
        if isinstance(one, Tensor) and one.device.type == "cpu":
            _add(found, one)
            if one.is_leaf and one.grad is not None:
                _add(found, one.grad)
    return found


def _of_engine(engine: Engine) -> dict[int, int]:
    found: dict[int, int] = {}
    for _, optimizer in engine.held():
        for state in optimizer.state.values():
            for value in state.values():
                if isinstance(value, Tensor):
                    _add(found, value)
    return found


def _add(found: dict[int, int], tensor: Tensor) -> None:
    storage = local(tensor).untyped_storage()
    if storage.nbytes():
        found[storage.data_ptr()] = storage.nbytes()


@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "zero1", "zero2", "zero3"])
def test_a_rank_keeps_what_its_strategy_says(strategy: str) -> None:
    for found in run_group(WORLD, _kept, strategy):
        for name, (kept, expected) in found.items():
            print(f"\n{strategy} {name}: {kept / expected:.3f} of {expected / 2**20:.2f} MiB")
            assert 0.9 * expected <= kept <= 1.15 * expected, name
