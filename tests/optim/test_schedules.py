"""Schedules as pure functions of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from dlsvc.errors import UsageError
from dlsvc.optim.schedules import build_schedule


@dataclass(frozen=True)
class Spec:
    name: str = "constant"
    warmup_steps: int = 0
    final_factor: float = 0.0


def _factors(spec: Spec, total: int = 10) -> list[float]:
    schedule = build_schedule(spec, total)
    return [schedule(step) for step in range(total + 1)]


def test_constant_stays() -> None:
    assert set(_factors(Spec())) == {1.0}


def test_linear_falls_evenly_to_its_end() -> None:
    found = _factors(Spec("linear", final_factor=0.5))
    assert found[0] == 1.0
    assert found[-1] == pytest.approx(0.5)
    assert [a - b for a, b in zip(found, found[1:], strict=False)] == pytest.approx([0.05] * 10)


def test_cosine_is_half_way_in_the_middle() -> None:
    found = _factors(Spec("cosine", final_factor=0.2))
    assert (found[0], found[5], found[10]) == pytest.approx((1.0, 0.6, 0.2))
    assert found[2] == pytest.approx(0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi * 0.2)))


@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
def test_warmup_rises_from_above_zero_to_one(name: str) -> None:
    found = _factors(Spec(name, warmup_steps=4))
    assert found[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert all(a >= b for a, b in zip(found[4:], found[5:], strict=False))


def test_beyond_the_end_the_last_factor_stays() -> None:
    assert build_schedule(Spec("cosine", final_factor=0.1), 10)(50) == pytest.approx(0.1)


def test_bad_schedules_are_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'cosine'"):
        build_schedule(Spec("cosin"), 10)
    with pytest.raises(UsageError, match="must be less than the run's 10 steps"):
        build_schedule(Spec("linear", warmup_steps=10), 10)
