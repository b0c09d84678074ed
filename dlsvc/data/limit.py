"""Fewer training samples: which ones, for curves of how much data it takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from dlsvc.augment import keys
from dlsvc.data.catalog.facts import LEFT_OUT
from dlsvc.data.splits import Source
from dlsvc.data.table import Ids, Subset, Table
from dlsvc.errors import DataError


def limited(source: Source, limit: int | None, seed: int) -> Source:
    """The source with `limit` samples in its training split, or as it is without a limit; the rest of that split is the
    split `left-out`, to choose settings by, and what is held out stays as it is. Raises DataError, when either is
    opened, for fewer samples than that.
    """
    if limit is None:
        return source
    openers = {"train": _opener(source, limit, seed), LEFT_OUT: _opener(source, limit, seed, rest=True)}
    return dataclasses.replace(source, splits={**source.splits, **openers}, _open={})


def _opener(source: Source, limit: int, seed: int, *, rest: bool = False) -> Callable[[], Table]:
    def open_part() -> Table:
        table = source.table("train")
        if limit > len(table):
            raise DataError(f"data.limit is {limit}, and {source.name} has {len(table)} training samples")
        ids = chosen(len(table), table.labels(), limit, seed)
        return Subset(table, np.setdiff1d(np.arange(len(table)), ids) if rest else ids)

    return open_part


def chosen(count: int, labels: Ids | None, limit: int, seed: int) -> Ids:
    """`limit` ids of 0 .. count - 1 in their order, drawn by the seed; each class, where there are labels, has its
    share, to within one sample. Every sample has a rank of its own, so a smaller choice lies within a larger one but
    for that one sample a class.
    """
    order = np.argsort(keys.sample_keys(seed, np.zeros(count, np.int64), np.arange(count)), kind="stable")
    if labels is None:
        return np.sort(order[:limit])
    ranked = labels[order]
    found = [order[ranked == label][:share] for label, share in enumerate(_shares(np.bincount(labels), limit))]
    return np.sort(np.concatenate(found))


def _shares(counts: Ids, limit: int) -> Ids:
    """`limit` cut in the proportion of the counts; what rounding down leaves goes to the largest remainders."""
    exact = counts * limit
    shares = exact // counts.sum()
    rest = np.argsort(-(exact % counts.sum()), kind="stable")[: limit - shares.sum()]
    shares[rest] += 1
    return np.asarray(shares, np.int64)
