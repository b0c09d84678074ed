"""Parameters that every modality's augmentations have: a probability, and a range that a sample's own draw falls in."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dlsvc.augment import keys as random
from dlsvc.errors import UsageError


def check_probability(name: str, p: float) -> None:
    """Raises UsageError unless p is in [0, 1]."""
    if not 0 <= p <= 1:
        raise UsageError(f"{name}: p must be in [0, 1], not {p}")


def check_within(name: str, parameter: str, value: float, least: float, most: float = math.inf) -> None:
    """Raises UsageError unless the value is in [least, most] and finite."""
    if not (math.isfinite(value) and least <= value <= most):
        wanted = f"at least {least:g}" if math.isinf(most) else f"in [{least:g}, {most:g}]"
        raise UsageError(f"{name}: {parameter} must be {wanted}, not {value}")


def check_range(name: str, unit: str, low: float, high: float, least: float, most: float) -> None:
    """Raises UsageError unless least <= min_<unit> <= max_<unit> <= most."""
    check_within(name, f"min_{unit}", low, least, most)
    check_within(name, f"max_{unit}", high, least, most)
    if low > high:
        raise UsageError(f"{name}: min_{unit} must be at most max_{unit}, not {low} with {high}")


def chosen(keys: random.Keys, name: str, p: float) -> NDArray[np.bool_]:
    """Which samples are augmented: (B,)."""
    selected: NDArray[np.bool_] = random.uniform(random.derive(keys, f"{name}/chosen")) < p
    return selected


def between(keys: random.Keys, stream: str, low: float, high: float) -> NDArray[np.float64]:
    """Each sample's value, uniform in [low, high): (B,)."""
    return low + (high - low) * random.uniform(random.derive(keys, stream))
