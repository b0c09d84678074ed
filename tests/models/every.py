"""Every registered model at its tiny size, with its task and a batch made without data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dlsvc.registry import REQUIRED, Argument, Entry, entries, resolve
from dlsvc.store.bundle import build_model
from dlsvc.tasks.base import Batch, Companion, Task


@dataclass
class Subject:
    model: nn.Module
    task: Task
    modules: dict[str, nn.Module]
    batch: Batch
    companions: dict[str, Companion]

    def losses(self, phase: str) -> Tensor:
        return torch.stack(list(self.task.losses(self.all_modules, self.batch, phase)[0].values())).sum()

    @property
    def all_modules(self) -> dict[str, nn.Module]:
        """Those that train and what lives beside them."""
        return {**self.modules, **{role: companion.module for role, companion in self.companions.items()}}


# Other arguments of a model and of its task that are shapes of their own: what they are called, and what they change.
VARIANTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "gan, hinge": ("gan", {"norm": "spectral"}, {"loss": "hinge"}),
    **{f"vit, {name}": ("vit", {"similarity": name}, {}) for name in ("dot", "general", "additive", "kernel")},
    "vit, patch dropout": ("vit", {"patch_dropout": 0.5}, {}),
    "blip, queue": ("blip", {}, {"queue_size": 24, "momentum": 0.9, "distillation_warmup": 2}),
    "blip2_qformer, queue": ("blip2_qformer", {}, {"queue_size": 24, "momentum": 0.9}),
    "gan, wasserstein": ("gan", {"norm": "none"}, {"loss": "wasserstein", "gradient_penalty": 10.0}),
}
NAMES = sorted(entries("model"))
SHAPES = [*NAMES, *VARIANTS]


def entry_of(name: str) -> Entry:
    """The registered model of a name or of a variant's."""
    return resolve("model", VARIANTS[name][0] if name in VARIANTS else name)


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
    entry, (_, model_args, task_args) = entry_of(name), VARIANTS.get(name, (name, {}, {}))
    arguments = {**entry.options["tiny"], **model_args}
    torch.manual_seed(seed)
    model = build_model({"name": entry.name, "args": arguments})
    task = resolve("task", entry.options["task"]).load()(**task_args)
    batch = task.dummy_batch(num_samples, full_arguments(entry, arguments))
    return Subject(model, task, task.modules(model), batch, task.companions(model))


@contextmanager
def only(subject: Subject, phase: str) -> Iterator[nn.Module]:
    """The module of a phase, with gradients for it alone, as an engine sets them."""
    trained = subject.modules[subject.task.trainable(phase)]
    before = {parameter: parameter.requires_grad for parameter in subject.model.parameters()}
    own = set(trained.parameters())
    for parameter, learns in before.items():
        parameter.requires_grad_(learns and parameter in own)
    yield trained
    for parameter, learns in before.items():
        parameter.requires_grad_(learns)
