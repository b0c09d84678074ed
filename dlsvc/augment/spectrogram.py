"""SpecAugment's masks (Park et al., 2019) on spectrograms: (B, ..., M, T) float32 in and out, each sample from its key.

M frequency bins, T time steps. A mask's width is uniform in 0 .. the largest width, its start uniform over the places
where it fits (the paper's half-open interval would leave the last bin unmasked for ever; ours is closed).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dlsvc.augment import keys as random
from dlsvc.augment.ranges import check_probability, check_within, chosen
from dlsvc.augment.registry import register_augmentation
from dlsvc.errors import DataError, UsageError

Spectrograms = NDArray[np.float32]


@register_augmentation("time-mask", modality="spectrogram")
@dataclass(frozen=True)
class TimeMask:
    """Hides `count` spans of up to `max_width` time steps, none wider than `max_share` of the length."""

    max_width: int
    count: int = 1
    max_share: float = 1.0
    fill: Literal["mean", "zero"] = "mean"
    p: float = 1.0

    def __post_init__(self) -> None:
        _check("time-mask", self.max_width, self.count, self.fill, self.p)
        check_within("time-mask", "max_share", self.max_share, 0, 1)

    def apply_spectrogram(self, spectrograms: Spectrograms, keys: random.Keys) -> Spectrograms:
        """(B, ..., M, T) float32 -> the same shape. Raises DataError for fewer than three axes."""
        steps = _checked(spectrograms).shape[-1]
        widest = min(self.max_width, int(self.max_share * steps))
        hidden = _spans(keys, "time-mask", steps, widest, self.count) & chosen(keys, "time-mask", self.p)[:, None]
        return _fill(spectrograms, hidden.reshape(_along(spectrograms, -1)), self.fill)


@register_augmentation("frequency-mask", modality="spectrogram")
@dataclass(frozen=True)
class FrequencyMask:
    """Hides `count` bands of up to `max_width` neighbouring frequency bins."""

    max_width: int
    count: int = 1
    fill: Literal["mean", "zero"] = "mean"
    p: float = 1.0

    def __post_init__(self) -> None:
        _check("frequency-mask", self.max_width, self.count, self.fill, self.p)

    def apply_spectrogram(self, spectrograms: Spectrograms, keys: random.Keys) -> Spectrograms:
        """(B, ..., M, T) float32 -> the same shape. Raises DataError for fewer than three axes."""
        bins = _checked(spectrograms).shape[-2]
        spans = _spans(keys, "frequency-mask", bins, min(self.max_width, bins), self.count)
        hidden = spans & chosen(keys, "frequency-mask", self.p)[:, None]
        return _fill(spectrograms, hidden.reshape(_along(spectrograms, -2)), self.fill)


def _check(name: str, max_width: int, count: int, fill: str, p: float) -> None:
    check_within(name, "max_width", max_width, 0)
    check_within(name, "count", count, 1)
    check_probability(name, p)
    if fill not in ("mean", "zero"):
        raise UsageError(f"{name}: fill must be 'mean' or 'zero', not {fill!r}")


def _checked(spectrograms: Spectrograms) -> Spectrograms:
    if spectrograms.ndim < 3 or spectrograms.dtype != np.float32:
        raise DataError(
            f"a spectrogram mask takes (B, ..., bins, steps) float32, not {spectrograms.shape} {spectrograms.dtype}"
        )
    return spectrograms


def _along(spectrograms: Spectrograms, axis: int) -> tuple[int, ...]:
    """The shape that puts one value per sample and place of the axis beside the spectrograms."""
    shape = [1] * spectrograms.ndim
    shape[0], shape[axis] = len(spectrograms), spectrograms.shape[axis]
    return tuple(shape)


def _spans(keys: random.Keys, name: str, size: int, widest: int, count: int) -> NDArray[np.bool_]:
    """Which places lie in a sample's spans: (B, size)."""
    draws = random.uniform(random.derive(keys, f"{name}/spans"), (count, 2))  # (B, count, 2)
    width = (draws[..., 0] * (widest + 1)).astype(np.int64)[..., None]
    start = (draws[..., 1, None] * (size - width + 1)).astype(np.int64)  # (B, count, 1)
    place = np.arange(size)
    inside = (start <= place) & (place < start + width)  # (B, count, size)
    return np.asarray(inside.any(axis=1))


def _fill(spectrograms: Spectrograms, hidden: NDArray[np.bool_], fill: str) -> Spectrograms:
    value: NDArray[np.float32] = np.zeros(len(spectrograms), np.float32)
    if fill == "mean":
        # A row in memory order of its own: the sum's grouping must not depend on the batch.
        rows = np.ascontiguousarray(spectrograms.reshape(len(spectrograms), -1), dtype=np.float64)
        value = rows.mean(axis=1).astype(np.float32)
    filled: Spectrograms = np.where(hidden, value.reshape(-1, *[1] * (spectrograms.ndim - 1)), spectrograms)
    return filled
