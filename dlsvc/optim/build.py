"""Optimizers by name, as torch builds them. Weight decay is L2 in sgd and adam, decoupled in adamw.

Not torch's fused kernels, which take a third of the time on a CPU: they round the last few elements of a vector in
another way than those before, so that a parameter which a strategy cuts in parts would end with other bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from dlsvc.errors import UsageError, did_you_mean
from dlsvc.optim.groups import GroupOptions, NamedParameters, freeze, split

__all__ = ["OPTIMIZERS", "OptimOptions", "build_optimizer", "freeze"]

ParamGroups = list[dict[str, Any]]


class OptimOptions(Protocol):
    """What a spec says of an optimizer."""

    @property
    def name(self) -> str: ...
    @property
    def lr(self) -> float: ...
    @property
    def momentum(self) -> float: ...
    @property
    def betas(self) -> tuple[float, float]: ...
    @property
    def eps(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def groups(self) -> Sequence[GroupOptions]: ...


def build_optimizer(options: OptimOptions, named_parameters: NamedParameters) -> torch.optim.Optimizer:
    """The optimizer over the trainable parameters. Each group keeps its learning rate in `base_lr`, for schedules to
    multiply.
    """
    if options.name not in OPTIMIZERS:
        raise UsageError(f"no optimizer is called {options.name!r}{did_you_mean(options.name, OPTIMIZERS)}")
    found: ParamGroups = []
    for group in split(named_parameters, options.groups, options.weight_decay):
        lr = options.lr * group.lr_factor
        found.append({"params": list(group.parameters), "lr": lr, "base_lr": lr, "weight_decay": group.weight_decay})
    if not found:
        raise UsageError("every parameter is frozen: nothing is left to train")
    return OPTIMIZERS[options.name](found, options)


def _sgd(groups: ParamGroups, options: OptimOptions) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum)


def _adam(groups: ParamGroups, options: OptimOptions) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups, lr=options.lr, betas=options.betas, eps=options.eps)


def _adamw(groups: ParamGroups, options: OptimOptions) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=options.lr, betas=options.betas, eps=options.eps)


OPTIMIZERS: dict[str, Callable[[ParamGroups, OptimOptions], torch.optim.Optimizer]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
}
