"""Runs for tests: a spec in a few words, trained on Ray or in a bare process group."""

from __future__ import annotations

import functools
import os
import signal
from pathlib import Path
from typing import Any

from dlsvc.spec.load import parse
from dlsvc.spec.schema import TrainSpec
from dlsvc.train.feeding import resident, training_table
from dlsvc.train.job import Job
from dlsvc.train.prepare import open_run, prepare_job
from dlsvc.train.worker import work
from tests.engine.processes import run_group
from tests.train.tiny_systems import TINY, write_pairs

SYSTEMS: dict[str, dict[str, Any]] = {
    "lenet5": {
        "model": {"name": "lenet5", "args": {"image_size": 16}},
        "data": {"source": "digits", "image": {"size": 16}},
    },
    "resnet34": {
        "model": {
            "name": "resnet34",
            "args": {
                "image_size": 16,
                "in_channels": 1,
                "num_classes": 10,
                "layers": (1, 2),
                "base_channels": 4,
                "stem": "small",
            },
        },
        "data": {"source": "digits", "image": {"size": 16}},
    },
    "vit": {
        "model": {
            "name": "vit",
            "args": {
                "image_size": 8,
                "patch_size": 4,
                "in_channels": 1,
                "d_model": 32,
                "num_layers": 2,
                "num_heads": 2,
                "dropout": 0.1,
                "num_classes": 10,
            },
        },
        "data": {"source": "digits", "image": {"size": 8}},
    },
    "vae": {
        "model": {"name": "vae", "args": {"image_size": 28, "latent_dim": 8, "base_channels": 8}},
        "data": {"source": "digits", "image": {"size": 28, "mean": [0.0], "std": [1.0]}},
    },
    "gan": {
        "model": {"name": "gan", "args": {"image_size": 28, "in_channels": 1, "latent_dim": 16, "base_channels": 8}},
        "data": {"source": "digits", "image": {"size": 28}},
        "optim": {"phases": {"discriminator": {"lr": 2e-4}, "generator": {"lr": 2e-4}}},
    },
    "unet": {
        "model": {
            "name": "unet",
            "args": {"image_size": 16, "base_channels": 4, "depth": 2, "padding": "same", "batch_norm": False},
        },
        "data": {
            "source": "nuclei",
            "image": {"size": 16},
            "augment": [{"name": "flip"}, {"name": "rotation", "max_degrees": 90}],
        },
    },
    "clip": {
        "model": {
            "name": "clip",
            "args": {
                "embed_dim": 16,
                "vision": {"image_size": 32, "patch_size": 8, "d_model": 32, "num_layers": 1, "num_heads": 2},
                "text": {"vocab_size": 512, "max_seq_len": 16, "d_model": 32, "num_layers": 1, "num_heads": 2},
            },
        },
        "data": {
            "source": "emoji",
            "image": {"size": 32, "channels": 3, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
            "text": {"vocab_size": 512, "max_seq_len": 16},
        },
    },
}

# With a projector and a language model to train over a frozen tower, as in its second stage.
SYSTEMS["llava"] = {
    "model": {
        "name": "llava",
        "args": {
            "vision": {"image_size": 16, "patch_size": 8, "d_model": 16, "num_layers": 2, "num_heads": 2},
            "language": {
                "vocab_size": 64,
                "max_seq_len": 24,
                "d_model": 16,
                "num_layers": 2,
                "num_heads": 2,
                "hidden_dim": 32,
                "dropout": 0.1,
            },
        },
    },
    "data": {
        "source": "easy-vqa",
        "limit": 1000,
        "image": {"size": 16, "channels": 3},
        "text": {
            "chat": True,
            "column": "question",
            "target": "answer",
            "vocab_size": 64,
            "max_seq_len": 24,
            "image_tokens": 4,
        },
    },
    "evaluate": {"split": "left-out", "batch_size": 2000},
}
# A loss over the whole batch, with negatives of an atom's own.
SYSTEMS["blip"] = {
    "model": {
        "name": "blip",
        "args": {
            "embed_dim": 16,
            "vision": {"image_size": 32, "patch_size": 8, "d_model": 32, "num_layers": 1, "num_heads": 2},
            "text": {"vocab_size": 512, "max_seq_len": 16, "d_model": 32, "num_layers": 1, "num_heads": 2},
        },
    },
    "task": {"args": {"scored": 16}},
    "data": SYSTEMS["clip"]["data"],
}
# With a momentum encoder and a queue that a step's samples don't divide.
SYSTEMS["blip-queue"] = {
    **SYSTEMS["blip"],
    "task": {"args": {"scored": 16, "queue_size": 150, "momentum": 0.9, "distillation_warmup": 4}},
}


def spec_of(system: str, **changes: Any) -> TrainSpec:
    """The system's small spec; `changes` are `section__field=value` or `section={...}`."""
    if system == "glove":
        write_pairs()
    name = system.replace("_", "-")
    body: dict[str, Any] = {
        "kind": "train",
        "name": name,
        "seed": 7,
        "budget": {"steps": 60},
        "batch": {"global_size": 64, "micro_size": 8},
    }
    body |= {"checkpoint": {"every_steps": 20}, "report": {"every_steps": 5}, "publish": {"name": f"trial-{name}"}}
    body |= {section: dict(value) for section, value in {**TINY, **SYSTEMS}[system].items()}
    for path, value in changes.items():
        section, _, field = path.partition("__")
        if field:
            body[section] = {**body.get(section, {}), field: value}
        else:
            body[section] = value
    found = parse(body)
    assert isinstance(found, TrainSpec)
    return found


def train_in_group(
    spec: TrainSpec, home: Path, *, run_name: str, world_size: int, stop_after: int | None = None
) -> dict[str, Any]:
    """Train without Ray in `world_size` processes; `stop_after` ends the processes after that many further saves."""
    spec, run = open_run(spec, run_name, home)
    job = prepare_job(spec, run, home)
    return dict(run_group(world_size, _member, job, stop_after)[0])


def killed_in_group(spec: TrainSpec, home: Path, *, run_name: str, world_size: int, step: int) -> str:
    """Train until the last rank is killed by SIGKILL in the last phase of a step, its gradients collected and not yet
    applied; how the group ended.
    """
    spec, run = open_run(spec, run_name, home)
    job = prepare_job(spec, run, home)
    try:
        run_group(world_size, _doomed, job, step)
    except AssertionError as error:
        return str(error)
    raise AssertionError("nobody was killed")


def _doomed(rank: int, world_size: int, job: Job, step: int) -> dict[str, Any]:
    from dlsvc.train import loop

    plain = loop.run_phase

    def run_phase(engine: Any, task: Any, atoms: Any, **options: Any) -> None:
        plain(engine, task, atoms, **options)
        if rank == world_size - 1 and options["step"] == step and options["phase"] == task.phases[-1]:
            os.kill(os.getpid(), signal.SIGKILL)

    loop.run_phase = run_phase
    return resident_work(job)


def _member(rank: int, world_size: int, job: Job, stop_after: int | None) -> dict[str, Any]:
    if stop_after is None:
        return resident_work(job)
    _stop_after_saves(stop_after)
    try:
        return resident_work(job)
    except _Stopped:
        return {}


def resident_work(job: Job) -> dict[str, Any]:
    """What a Ray Train worker does with a resident feed, in this process."""
    return work(job, functools.partial(resident, training_table(job)))


class _Stopped(BaseException):
    """A test's way to end a worker right after a save."""


def _stop_after_saves(count: int) -> None:
    from dlsvc.train import saving

    plain, left = saving.save, [count]

    def save(*arguments: Any, **keywords: Any) -> None:
        plain(*arguments, **keywords)
        left[0] -= 1
        if not left[0]:
            raise _Stopped

    saving.save = save
