"""Optimizers by name. Weight decay is L2 in those of the course, decoupled in adamw, lion, lamb and muon.

Not torch's fused kernels, which take a third of the time on a CPU: they round the last few elements of a vector in
another way than those before, so that a parameter which a strategy cuts in parts would end with other bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from dlsvc.errors import UsageError, did_you_mean
from dlsvc.optim import rules
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
    def alpha(self) -> float: ...
    @property
    def rho(self) -> float: ...
    @property
    def l1(self) -> float: ...
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
    for group in split(named_parameters, options.groups, options.weight_decay, options.l1):
        lr = options.lr * group.lr_factor
        of_group = {"lr": lr, "base_lr": lr, "weight_decay": group.weight_decay, "l1": group.l1}
        found.append({"params": list(group.parameters), **of_group})
    if not found:
        raise UsageError("every parameter is frozen: nothing is left to train")
    optimizer = OPTIMIZERS[options.name](found, options)
    if any(group["l1"] for group in found):
        optimizer.register_step_pre_hook(_add_l1)
    return optimizer


@torch.no_grad()
def _add_l1(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """The gradient of `l1` times the sum of magnitudes; after clipping, as L2's is."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if group["l1"] and parameter.grad is not None:
                parameter.grad.add_(parameter.sign(), alpha=group["l1"])


def _sgd(groups: ParamGroups, options: OptimOptions) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum)


def _adam(groups: ParamGroups, options: OptimOptions) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups, lr=options.lr, betas=options.betas, eps=options.eps)


def _adamw(groups: ParamGroups, options: OptimOptions) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=options.lr, betas=options.betas, eps=options.eps)


def _momentum(groups: ParamGroups, options: OptimOptions) -> torch.optim.Optimizer:
    return rules.Momentum(groups, lr=options.lr, momentum=options.momentum)


def _adagrad(groups: ParamGroups, options: OptimOptions) -> torch.optim.Optimizer:
    return rules.Adagrad(groups, lr=options.lr, eps=options.eps)


def _rmsprop(groups: ParamGroups, options: OptimOptions) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(groups, lr=options.lr, alpha=options.alpha, eps=options.eps)


def _adadelta(groups: ParamGroups, options: OptimOptions) -> torch.optim.Optimizer:
    return rules.Adadelta(groups, lr=options.lr, rho=options.rho, eps=options.eps)


def _lion(groups: ParamGroups, options: OptimOptions) -> torch.optim.Optimizer:
    return rules.Lion(groups, lr=options.lr, betas=options.betas)


def _lamb(groups: ParamGroups, options: OptimOptions) -> torch.optim.Optimizer:
    return rules.Lamb(groups, lr=options.lr, betas=options.betas, eps=options.eps)


def _muon(groups: ParamGroups, options: OptimOptions) -> torch.optim.Optimizer:
    return rules.Muon(groups, lr=options.lr, momentum=options.momentum, betas=options.betas, eps=options.eps)


OPTIMIZERS: dict[str, Callable[[ParamGroups, OptimOptions], torch.optim.Optimizer]] = {
    "sgd": _sgd,
    "momentum": _momentum,
    "adagrad": _adagrad,
    "rmsprop": _rmsprop,
    "adadelta": _adadelta,
    "adam": _adam,
    "adamw": _adamw,
    "lion": _lion,
    "lamb": _lamb,
    "muon": _muon,
}
