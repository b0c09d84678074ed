"""How often a class is taken for which, and what follows from that.

B samples or pixels, K classes. Tables are (K, K): a row a class, a column what it was taken for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor, bincount

# Classes whose numbers can still be read in a picture.
_READABLE = 20


def confusion(truth: Tensor, guess: Tensor, num_classes: int) -> Tensor:
    """Counts (K, K) int64 of classes and guesses, of one shape."""
    counts = bincount((truth * num_classes + guess).flatten(), minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def top_k(logits: Tensor, label: Tensor, k: int) -> Tensor:
    """How many labels (B,) are among the k largest logits (B, K) of their sample."""
    return (logits.topk(k, dim=1).indices == label[:, None]).any(1).sum()


def macro_f1(correct: np.ndarray, actual: np.ndarray, guessed: np.ndarray) -> float:
    """The mean over classes that occur or were guessed of 2 TP / (actual + guessed), from counts by class (K,)."""
    total = actual + guessed
    return float((2 * correct[total > 0] / total[total > 0]).mean())


def intersection_over_union(table: np.ndarray) -> dict[int, float]:
    """By class, from a confusion matrix; classes that neither occur nor were guessed have none."""
    correct = np.diag(table)
    union = table.sum(0) + table.sum(1) - correct
    return {int(label): float(correct[label] / union[label]) for label in np.flatnonzero(union)}


def draw_confusion(table: np.ndarray, classes: Sequence[str], path: Path) -> str:
    """As PNG: shares of each row by how dark they are, and where there are few classes, the counts."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(table)
    names = list(classes) if len(classes) == count else [str(place) for place in range(count)]
    share = table / np.maximum(table.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(max(5.0, 0.45 * min(count, 40)),) * 2, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(count), names, rotation=90, fontsize=7)
    axes.set_yticks(range(count), names, fontsize=7)
    axes.set_xlabel("taken for")
    axes.set_ylabel("class")
    if count <= _READABLE:
        for (row, column), value in np.ndenumerate(table.astype(np.int64)):
            shade = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, str(value), ha="center", va="center", fontsize=7, color=shade)
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(str(path))
    return str(path)
