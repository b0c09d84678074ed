"""Every registered model at its tiny size, with its task and a batch made without data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dlsvc.registry import REQUIRED, Argument, Entry, entries, resolve
from dlsvc.tasks.base import Batch, Task


@dataclass
class Subject:
    model: nn.Module
    task: Task
    modules: dict[str, nn.Module]
    batch: Batch

    def losses(self, phase: str) -> Tensor:
        return torch.stack(list(self.task.losses(self.modules, self.batch, phase)[0].values())).sum()


NAMES = sorted(entries("model"))


def full_arguments(entry: Entry, given: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults, and what is given over them, also within parts."""
    found = {}
    for argument in entry.arguments:
        value = given.get(argument.name, argument.default)
        part = entry.parts.get(argument.annotation)
        found[argument.name] = {**_defaults(part), **value} if part else value
    return found


def _defaults(part: tuple[Argument, ...]) -> dict[str, Any]:
    return {argument.name: argument.default for argument in part if argument.default is not REQUIRED}


def build(name: str, *, seed: int = 0, num_samples: int = 8) -> Subject:
    entry = resolve("model", name)
    torch.manual_seed(seed)
    model = entry.load()(**entry.options["tiny"])
    task = resolve("task", entry.options["task"]).load()()
    batch = task.dummy_batch(num_samples, full_arguments(entry, entry.options["tiny"]))
    return Subject(model, task, task.modules(model), batch)


@contextmanager
def only(subject: Subject, phase: str) -> Iterator[nn.Module]:
    """The module of a phase, with gradients for it alone, as an engine sets them."""
    trained = subject.modules[subject.task.trainable(phase)]
    subject.model.requires_grad_(False)
    trained.requires_grad_(True)
    yield trained
    subject.model.requires_grad_(True)
