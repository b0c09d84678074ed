"""Optimizers, groups and freezing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from dlsvc.errors import UsageError
from dlsvc.optim.build import build_optimizer, freeze


@dataclass(frozen=True)
class GroupSpec:
    params: tuple[str, ...]
    lr_factor: float = 1.0
    weight_decay: float | None = None
    l1: float | None = None


@dataclass(frozen=True)
class Spec:
    name: str = "adam"
    lr: float = 0.1
    momentum: float = 0.0
    alpha: float = 0.99
    rho: float = 0.9
    l1: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    groups: tuple[GroupSpec, ...] = ()


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def _build(spec: Spec, model: nn.Module | None = None) -> torch.optim.Optimizer:
    return build_optimizer(spec, list((model or _model()).named_parameters()))


@pytest.mark.parametrize(
    ("spec", "reference"),
    [
        (
            Spec("sgd", momentum=0.9, weight_decay=0.1),
            lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
        ),
        (Spec("adam", betas=(0.5, 0.9)), lambda p: torch.optim.Adam(p, 0.1, betas=(0.5, 0.9))),
        (Spec("adamw", weight_decay=0.1, eps=1e-6), lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.1, eps=1e-6)),
        (Spec("rmsprop", alpha=0.9, weight_decay=0.1), lambda p: torch.optim.RMSprop(p, 0.1, 0.9, weight_decay=0.1)),
    ],
)
def test_three_steps_are_torchs(spec: Spec, reference: Any) -> None:
    ours, theirs = _model(), _model()
    for model, optimizer in ((ours, _build(spec, ours)), (theirs, reference(theirs.parameters()))):
        for step in range(3):
            model(torch.full((2, 3), step + 1.0)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_l1_pulls_every_parameter_of_its_group_towards_zero() -> None:
    model = _model()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = _build(Spec("sgd", l1=0.5, groups=(GroupSpec(("*.bias",), l1=0.0),)), model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for (name, now), was in zip(model.named_parameters(), before, strict=True):
        assert torch.equal(now, was if name.endswith("bias") else was - 0.1 * 0.5 * was.sign())


def test_groups_keep_their_base_rate_and_decay() -> None:
    groups = (GroupSpec(("*.bias",), weight_decay=0.0), GroupSpec(("0.*",), lr_factor=0.5))
    found = _build(Spec("adamw", weight_decay=0.1, groups=groups)).param_groups
    assert [(len(g["params"]), g["base_lr"], g["lr"], g["weight_decay"]) for g in found] == [
        (2, 0.1, 0.1, 0.0),
        (1, 0.05, 0.05, 0.1),
        (1, 0.1, 0.1, 0.1),
    ]


def test_a_parameter_is_in_one_group_only() -> None:
    groups = (GroupSpec(("0.*",)), GroupSpec(("0.weight", "1.*")))
    parameters = [id(p) for group in _build(Spec(groups=groups)).param_groups for p in group["params"]]
    assert len(parameters) == len(set(parameters)) == 4


def test_an_unmatched_glob_names_itself_and_what_is_close() -> None:
    with pytest.raises(
        UsageError, match=r"optim.groups\[0\].params: '0.wieght' matches no parameter; close ones: 0.weight"
    ):
        _build(Spec(groups=(GroupSpec(("0.wieght",)),)))
    with pytest.raises(UsageError, match=r"freeze: 'zzz\*' matches no parameter; there are 0.weight"):
        freeze(_model(), ["zzz*"])


def test_frozen_parameters_are_left_to_themselves() -> None:
    model = _model()
    freeze(model, ["0.*"])
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True]
    assert [len(group["params"]) for group in _build(Spec(), model).param_groups] == [2]
    freeze(model, ["*"])
    with pytest.raises(UsageError, match="every parameter is frozen"):
        _build(Spec(), model)


def test_unknown_optimizer_names_the_closest() -> None:
    with pytest.raises(UsageError, match="did you mean 'adamw'"):
        _build(Spec("adamww"))
