"""A series of measurements for the model.

B series of T steps and C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsvc.data.codecs import Undecodable
from dlsvc.data.table import Table, chunks

_CHUNK = 1024


@dataclass(frozen=True)
class SeriesInput:
    """Standardised with the training split's mean and deviation of each channel."""

    steps: int
    names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """(T, C)"""
        return self.steps, len(self.names)

    def decode(self, values: Any) -> NDArray[np.float32]:
        """(T, C) float32 of an array or of a request's list of steps. Raises Undecodable: another shape, or a number
        that is missing or not finite, which no filling-in could make a measurement.
        """
        try:
            with np.errstate(over="ignore"):  # what float32 can't hold is found below
                numbers = np.asarray(values, np.float32)
        except (TypeError, ValueError, OverflowError) as error:
            raise Undecodable(f"not a list of steps, each a list of {len(self.names)} numbers: {error}") from error
        if numbers.ndim == 1 and len(self.names) == 1:
            numbers = numbers[:, None]
        if numbers.shape != self.shape:
            own = "{} steps of {} channels ({})".format(*self.shape, ", ".join(self.names))
            raise Undecodable(f"a series of shape {numbers.shape}; the model reads {own}")
        if not np.isfinite(numbers).all():
            step, channel = np.argwhere(~np.isfinite(numbers))[0]
            raise Undecodable(f"step {step} of {self.names[channel]} isn't a finite number")
        return numbers

    def standardise(self, series: NDArray[np.float32]) -> NDArray[np.float32]:
        """(B, T, C) -> (B, C, T)"""
        scaled: NDArray[np.float64] = (series - np.asarray(self.mean)) / np.asarray(self.std)
        return np.ascontiguousarray(scaled.astype(np.float32).transpose(0, 2, 1))


def fit_series(table: Table, names: tuple[str, ...]) -> SeriesInput:
    """The channels' means and deviations over the training split; samples with a number that isn't finite have no part
    in them.
    """
    steps, width = table.rows(np.zeros(1, np.int64))["series"].shape[1:]
    count, total, squares = 0, np.zeros(width), np.zeros(width)
    for ids in chunks(len(table), _CHUNK):
        series = table.rows(ids)["series"].astype(np.float64)
        sound = series[np.isfinite(series).all(axis=(1, 2))]
        count += len(sound) * steps
        total += sound.sum(axis=(0, 1))
        squares += np.square(sound).sum(axis=(0, 1))
    mean = total / max(1, count)
    std = np.sqrt(np.maximum(squares / max(1, count) - np.square(mean), 0))
    std[std == 0] = 1  # a constant channel becomes 0
    return SeriesInput(
        steps, names or tuple(f"channel-{place}" for place in range(width)), tuple(mean.tolist()), tuple(std.tolist())
    )
