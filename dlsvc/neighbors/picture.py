"""Neighbours to look at: a query beside what is near it, and a split's vectors on their principal plane."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dlsvc.data.codecs import encode_png
from dlsvc.data.gallery import Pixels, cell
from dlsvc.neighbors.distance import Ids, Vectors, principal_plane

# Points that a map can show apart.
_POINTS = 4000


def draw_row(pictures: Sequence[Pixels | bytes], captions: Sequence[str], path: Path) -> str:
    """Pictures side by side with a line of text under each, as PNG."""
    cells = [cell(picture, caption) for picture, caption in zip(pictures, captions, strict=True)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(np.concatenate(cells, axis=1)))
    return str(path)


def draw_map(vectors: Vectors, labels: Ids | None, classes: Sequence[str], path: Path) -> str:
    """The plane of most variance, a point a sample, coloured by class, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    chosen = np.unique(np.linspace(0, len(vectors) - 1, min(len(vectors), _POINTS)).astype(np.int64))
    places, shares = principal_plane(vectors)
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.add_subplot()
    kinds = np.zeros(len(vectors), np.int64) if labels is None else labels
    for kind in np.unique(kinds[chosen]):
        here = chosen[kinds[chosen] == kind]
        name = None if labels is None else classes[kind] if kind < len(classes) else str(kind)
        axes.scatter(places[here, 0], places[here, 1], s=9, alpha=0.7, label=name, color=f"C{kind % 10}", linewidths=0)
    axes.set_xlabel(f"first principal direction, {shares[0]:.0%} of the variance")
    axes.set_ylabel(f"second, {shares[1]:.0%}")
    if labels is not None:
        axes.legend(fontsize=8, frameon=False, markerscale=2, loc="best")
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(str(path))
    return str(path)
