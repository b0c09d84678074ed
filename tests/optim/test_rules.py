"""Update rules against their formulas, written out as the course and the papers have them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dlsvc.optim.build import build_optimizer
from dlsvc.optim.rules import orthogonal
from dlsvc.spec.sections import PhaseOptimSpec

SIZE, STEPS = 5, 6
Array = np.ndarray
# From the gradients, one after the other, and a start: where a parameter is after each.
Formula = Callable[[Iterator[Array], Array], Iterator[Array]]


def _sgd(gradients: Iterator[Array], theta: Array) -> Iterator[Array]:
    for g in gradients:
        theta = theta - 0.1 * g
        yield theta


def _momentum(gradients: Iterator[Array], theta: Array) -> Iterator[Array]:
    m = np.zeros(SIZE)
    for g in gradients:
        m = 0.9 * m + (1 - 0.9) * g
        theta = theta - 0.1 * m
        yield theta


def _adagrad(gradients: Iterator[Array], theta: Array) -> Iterator[Array]:
    v = np.zeros(SIZE)
    for g in gradients:
        v = v + g**2
        theta = theta - 0.1 / (np.sqrt(v) + 1e-3) * g
        yield theta


def _rmsprop(gradients: Iterator[Array], theta: Array) -> Iterator[Array]:
    v = np.zeros(SIZE)
    for g in gradients:
        v = 0.9 * v + (1 - 0.9) * g**2
        theta = theta - 0.1 / (np.sqrt(v) + 1e-3) * g
        yield theta


def _adadelta(gradients: Iterator[Array], theta: Array) -> Iterator[Array]:
    u, v = np.zeros(SIZE), np.zeros(SIZE)
    for g in gradients:
        v = 0.8 * v + (1 - 0.8) * g**2
        step = np.sqrt(u + 1e-3) / (np.sqrt(v) + 1e-3) * g
        u = 0.8 * u + (1 - 0.8) * step**2
        theta = theta - step
        yield theta


def _adam(gradients: Iterator[Array], theta: Array) -> Iterator[Array]:
    for direction in _adam_directions(gradients):
        theta = theta - 0.1 * direction
        yield theta


def _adam_directions(gradients: Iterator[Array]) -> Iterator[Array]:
    m, v = np.zeros(SIZE), np.zeros(SIZE)
    for t, g in enumerate(gradients, 1):
        m, v = 0.8 * m + (1 - 0.8) * g, 0.9 * v + (1 - 0.9) * g**2
        yield (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.9**t)) + 1e-3)


def _lion(gradients: Iterator[Array], theta: Array) -> Iterator[Array]:
    m = np.zeros(SIZE)
    for g in gradients:
        theta = theta - 0.1 * (np.sign(0.8 * m + (1 - 0.8) * g) + 0.3 * theta)
        m = 0.9 * m + (1 - 0.9) * g
        yield theta


def _lamb(gradients: Iterator[Array], theta: Array) -> Iterator[Array]:
    for direction in _adam_directions(gradients):
        step = direction + 0.3 * theta
        theta = theta - 0.1 * np.linalg.norm(theta) / np.linalg.norm(step) * step
        yield theta


CASES: dict[str, tuple[Formula, dict[str, Any]]] = {
    "sgd": (_sgd, {}),
    "momentum": (_momentum, {"momentum": 0.9}),
    "adagrad": (_adagrad, {"eps": 1e-3}),
    "rmsprop": (_rmsprop, {"alpha": 0.9, "eps": 1e-3}),
    "adadelta": (_adadelta, {"rho": 0.8, "eps": 1e-3, "lr": 1.0}),
    "adam": (_adam, {"betas": (0.8, 0.9), "eps": 1e-3}),
    "lion": (_lion, {"betas": (0.8, 0.9), "weight_decay": 0.3}),
    "lamb": (_lamb, {"betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.3}),
    # Of one dimension: there it is AdamW.
    "muon": (_adam, {"momentum": 0.9, "betas": (0.8, 0.9), "eps": 1e-3}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_rule_is_its_formula(name: str) -> None:
    formula, fields = CASES[name]
    draws = np.random.default_rng(0)
    start, gradients = draws.normal(size=SIZE), draws.normal(size=(STEPS, SIZE))
    parameter = torch.nn.Parameter(torch.tensor(start))
    optimizer = build_optimizer(PhaseOptimSpec(**{"name": name, "lr": 0.1, **fields}), [("w", parameter)])
    for gradient, wanted in zip(gradients, formula(iter(gradients), start), strict=True):
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
        np.testing.assert_allclose(parameter.detach().numpy(), wanted, rtol=1e-6)


def test_what_a_rule_keeps_goes_on_where_it_was() -> None:
    """From the state that a checkpoint holds: tensors, and counts as float32."""
    gradients = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))
    for name in CASES:
        one, other = (torch.nn.Parameter(torch.ones(3, 5)) for _ in range(2))
        spec = PhaseOptimSpec(name=name, momentum=0.9 if name in ("momentum", "muon") else 0.0)
        first, second = (build_optimizer(spec, [("w", w)]) for w in (one, other))
        _step(first, one, gradients[:2])
        other.data.copy_(one)
        for kind, value in first.state[one].items():
            second.state[other][kind] = value.clone()
        _step(first, one, gradients[2:])
        _step(second, other, gradients[2:])
        assert torch.equal(one, other), name


def _step(optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter, gradients: Tensor) -> None:
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (6, 2, 3, 3)])
def test_muon_moves_matrices_as_torchs_does(shape: tuple[int, ...]) -> None:
    """Torch's iterates in bfloat16, so only roughly; and takes no convolutions, whose filters are rows here."""
    generator = torch.Generator().manual_seed(1)
    start, gradients = torch.randn(shape, generator=generator), torch.randn(3, *shape, generator=generator)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.flatten(1).clone())
    spec = PhaseOptimSpec(name="muon", lr=0.1, momentum=0.95, weight_decay=0.1)
    reference = torch.optim.Muon([theirs], lr=0.1, momentum=0.95, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    _step(build_optimizer(spec, [("w", ours)]), ours, gradients)
    _step(reference, theirs, gradients.flatten(2))
    moved = (theirs - start.flatten(1)).norm()
    assert (ours.flatten(1) - theirs).norm() < 0.02 * moved


def test_singular_values_come_near_one() -> None:
    matrix = torch.randn(12, 30, generator=torch.Generator().manual_seed(2))
    values = torch.linalg.svdvals(orthogonal(matrix))
    assert values.min() > 0.6
    assert values.max() < 1.3
