"""How alike vectors are, and which are nearest: by matrix products, exact, for up to about a million vectors.

N vectors and n queries of D numbers; float64 inside.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dlsvc.errors import UsageError

Metric = Literal["cosine", "euclidean", "dot"]
Vectors = NDArray[np.float32] | NDArray[np.float64]
Scores = NDArray[np.float64]
Ids = NDArray[np.int64]

METRICS: tuple[str, ...] = get_args(Metric)
# Numbers of a block of vectors, and similarities, held at a time: 64 MiB each.
_CELLS = 2**23


def similarities(queries: Vectors, vectors: Vectors, metric: str) -> Scores:
    """(n, D) and (N, D) -> (n, N), the larger the nearer: cosine of the angle, negative Euclidean distance, or dot
    product. Raises UsageError for another metric.
    """
    return _scores(_prepared(queries, metric), _prepared(vectors, metric), metric)


def _prepared(vectors: Vectors, metric: str) -> Scores:
    if metric not in METRICS:
        raise UsageError(f"metric must be one of {', '.join(METRICS)}, not {metric!r}")
    whole = vectors.astype(np.float64)
    return _unit(whole) if metric == "cosine" else whole


def _scores(one: Scores, two: Scores, metric: str) -> Scores:
    products: Scores = one @ two.T
    if metric != "euclidean":
        return products
    squared = np.square(one).sum(1)[:, None] + np.square(two).sum(1) - 2 * products
    return np.asarray(-np.sqrt(np.maximum(squared, 0)))


def nearest(
    queries: Vectors, vectors: Vectors, k: int, metric: str = "cosine", *, own: Ids | None = None
) -> tuple[Ids, Scores]:
    """The k nearest vectors of each query, nearest first, the first among equals: places and similarities, both (n, k).

    `own` (n,) are the queries' own places among the vectors, which are left out. What is held beside arguments and
    results is bounded, whatever their number: a block of vectors at a time meets a block of queries. Raises UsageError
    when there are fewer than k others.
    """
    others = len(vectors) - (own is not None)
    if not 1 <= k <= others:
        raise UsageError(f"k is {k}; there are {others} vectors to choose from")
    places, values = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), -np.inf)
    for part in _blocks(len(vectors), vectors.shape[1]):
        block = _prepared(vectors[part], metric)
        for rows in _blocks(len(queries), max(block.shape)):
            scores = _scores(_prepared(queries[rows], metric), block, metric)
            if own is not None:
                here = np.flatnonzero((own[rows] >= part.start) & (own[rows] < part.stop))
                scores[here, own[rows][here] - part.start] = -np.inf
            for row, line in enumerate(scores, start=rows.start):
                places[row], values[row] = _merged(places[row], values[row], line, part.start)
    return places, values


def _merged(places: Ids, values: Scores, line: Scores, first: int) -> tuple[Ids, Scores]:
    """The best so far, (k,) both and in order, and the similarities (N,) of the vectors from place `first` on: the k
    best of all. Among equals those before come first, so only what is nearer than the last can come in.
    """
    k = len(places)
    near = np.flatnonzero(line > values[-1])
    if len(near) > k:
        near = near[line[near] >= np.partition(line[near], -k)[-k]]
    all_places, all_values = np.concatenate([places, first + near]), np.concatenate([values, line[near]])
    order = np.argsort(-all_values, kind="stable")[:k]
    return all_places[order], all_values[order]


def vote(labels: Ids, num_classes: int) -> Ids:
    """The class of most of each row's neighbours, (n, k) -> (n,); among equals that of the nearest."""
    count, k = labels.shape
    # A vote each, and halves of a half for being near: less than one vote in all, and more than all who come after.
    weights = 1 + 0.5 ** (1 + np.arange(k))
    votes = np.zeros((count, num_classes))
    np.add.at(votes, (np.arange(count)[:, None], labels), weights)
    return np.asarray(votes.argmax(1))


def knn_accuracy(vectors: Vectors, labels: Ids, k: int = 5, metric: str = "cosine") -> float:
    """The share of vectors whose class is that of most of their k nearest others (leave one out)."""
    places, _ = nearest(vectors, vectors, min(k, len(vectors) - 1), metric, own=np.arange(len(vectors)))
    return float((vote(labels[places], int(labels.max()) + 1) == labels).mean())


def principal_plane(vectors: Vectors) -> tuple[Scores, Scores]:
    """The two directions of most variance: coordinates (N, 2), and their shares of the variance (2,). Each direction's
    largest component is positive, so that a picture has one orientation.
    """
    centred = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
    if centred.shape[1] < 2:
        centred = np.pad(centred, ((0, 0), (0, 2 - centred.shape[1])))
    variance, directions = np.linalg.eigh(centred.T @ centred)
    chosen = directions[:, ::-1][:, :2]
    chosen = chosen * np.sign(chosen[np.abs(chosen).argmax(0), [0, 1]])
    shares = np.maximum(variance[::-1][:2], 0) / max(float(variance.sum()), 1e-300)
    return centred @ chosen, shares


def _unit(vectors: Scores) -> Scores:
    """Of length 1; a zero vector is like nothing."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1))


def _blocks(rows: int, width: int) -> Iterator[slice]:
    size = max(1, _CELLS // max(1, width))
    return (slice(first, min(first + size, rows)) for first in range(0, rows, size))
