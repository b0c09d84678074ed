"""Learning-rate schedules: pure functions from a step (the first is 0) to a factor of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from dlsvc.errors import UsageError, did_you_mean

Curve = Callable[[float, float], float]


class ScheduleOptions(Protocol):
    """What a spec says of a schedule."""

    @property
    def name(self) -> str: ...
    @property
    def warmup_steps(self) -> int: ...
    @property
    def final_factor(self) -> float: ...


def constant(progress: float, final_factor: float) -> float:
    """1 throughout; `final_factor` is not used."""
    return 1.0


def linear(progress: float, final_factor: float) -> float:
    """A straight line from 1 to `final_factor`."""
    return 1.0 + (final_factor - 1.0) * progress


def cosine(progress: float, final_factor: float) -> float:
    """Half a cosine from 1 to `final_factor` (Loshchilov and Hutter, 2017, equation 5, one cycle)."""
    return final_factor + (1.0 - final_factor) * 0.5 * (1.0 + math.cos(math.pi * progress))


def inverse_sqrt(step: int, warmup_steps: int) -> float:
    """The warm-up's line, then sqrt(warm-up / step): 1 where they meet (Vaswani et al. 2017, equation 3, with `lr` its
    peak).
    """
    return min(warmup(step, warmup_steps), math.sqrt(max(1, warmup_steps) / (step + 1)))


CURVES: dict[str, Curve] = {"constant": constant, "linear": linear, "cosine": cosine}


def warmup(step: int, warmup_steps: int) -> float:
    """A line that reaches 1 at the last of the warm-up's steps; never 0, so that no step is lost."""
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps > 0 else 1.0


def factor(curve: Curve, step: int, *, total_steps: int, warmup_steps: int, final_factor: float) -> float:
    """The factor at a step: warm-up first, then the curve over the steps that are left."""
    if step < warmup_steps:
        return warmup(step, warmup_steps)
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return curve(min(1.0, progress), final_factor)


def build_schedule(options: ScheduleOptions, total_steps: int) -> Callable[[int], float]:
    """The schedule of a spec over `total_steps`. Raises UsageError for an unknown name or a warm-up as long as the
    run.
    """
    known = (*CURVES, "inverse-sqrt")
    if options.name not in known:
        raise UsageError(f"no schedule is called {options.name!r}{did_you_mean(options.name, known)}")
    if options.warmup_steps < 0 or (options.warmup_steps and options.warmup_steps >= total_steps):
        raise UsageError(
            f"schedule.warmup_steps is {options.warmup_steps}; it must be less than the run's {total_steps} steps"
        )
    if options.name == "inverse-sqrt":
        return lambda step: inverse_sqrt(step, options.warmup_steps)
    curve, warmup_steps, final_factor = CURVES[options.name], options.warmup_steps, options.final_factor
    return lambda step: factor(
        curve, step, total_steps=total_steps, warmup_steps=warmup_steps, final_factor=final_factor
    )
