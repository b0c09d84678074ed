"""The order of an epoch: a permutation of row ids that is a pure function of (seed, epoch), found without keeping more
than a part of it where the rows are many.

Random numbers are numpy's Philox (Salmon et al. 2011), counter-based: a stream of its own for each epoch and window.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


class Order(Protocol):
    """Who stands where in an epoch."""

    def __len__(self) -> int: ...

    def ids(self, seed: int, epoch: int, offsets: Ids) -> Ids:
        """The row id at each offset into the epoch, (N,)."""


@dataclass(frozen=True)
class Shuffled:
    """Any row anywhere, for sources that give any row at once."""

    num_rows: int

    def __len__(self) -> int:
        return self.num_rows

    def ids(self, seed: int, epoch: int, offsets: Ids) -> Ids:
        return _permutation(seed, epoch, self.num_rows)[offsets]


@dataclass(frozen=True)
class Windowed:
    """Row groups in random order, and rows in random order within windows of whole groups that hold at least
    `window_rows`: a reader keeps one window's groups at hand, however large the source is.

    `groups` are the row counts of consecutive groups; ids count rows through them.
    """

    groups: tuple[int, ...]
    window_rows: int

    def __len__(self) -> int:
        return sum(self.groups)

    def ids(self, seed: int, epoch: int, offsets: Ids) -> Ids:
        layout = _layout(self, seed, epoch)
        windows = np.searchsorted(layout.ends, offsets, side="right")
        found = np.empty_like(offsets)
        for window in np.unique(windows).tolist():
            here = windows == window
            first = int(layout.ends[window - 1]) if window else 0
            found[here] = _window(self, seed, epoch, window)[offsets[here] - first]
        return found


@dataclass(frozen=True)
class _Layout:
    """An epoch's windows: which groups each holds, and the offset at which it ends."""

    windows: tuple[tuple[int, ...], ...]
    ends: Ids


@functools.lru_cache(maxsize=4)
def _layout(order: Windowed, seed: int, epoch: int) -> _Layout:
    windows: list[list[int]] = [[]]
    rows = [0]
    for group in _stream(seed, epoch, 0).permutation(len(order.groups)).tolist():
        if rows[-1] >= order.window_rows:
            windows.append([])
            rows.append(0)
        windows[-1].append(group)
        rows[-1] += order.groups[group]
    return _Layout(tuple(map(tuple, windows)), np.cumsum(rows, dtype=np.int64))


@functools.lru_cache(maxsize=4)
def _window(order: Windowed, seed: int, epoch: int, window: int) -> Ids:
    """The ids of a window's rows, in their random order."""
    starts = np.concatenate([[0], np.cumsum(order.groups)]).astype(np.int64)
    groups = _layout(order, seed, epoch).windows[window]
    rows = np.concatenate([np.arange(starts[group], starts[group + 1]) for group in groups])
    shuffled: Ids = _stream(seed, epoch, window + 1).permutation(rows)
    return shuffled


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, count: int) -> Ids:
    return _stream(seed, epoch, 0).permutation(count)


def _stream(seed: int, epoch: int, number: int) -> np.random.Generator:
    # The counter's highest word tells streams apart: each has 2**192 draws.
    return np.random.Generator(np.random.Philox(key=[seed, epoch], counter=[0, 0, 0, number]))
