"""Neighbours to look at: a query beside what is near it, and a split's vectors on their principal plane."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dlsvc.data.codecs import encode_png
from dlsvc.data.gallery import CELL, Pixels, cell, film_frames, in_square, sound_wave, spectrogram
from dlsvc.neighbors.distance import Ids, Vectors, principal_plane

# Points that a map can show apart.
_POINTS = 4000
# What there is something to look at for, in the order of what is shown of a sample that has several.
DRAWN = ("image", "video", "audio", "series", "text")
_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#7f7f7f")
# Letters of a line and lines of a card, and how many pixels a line is high.
_LETTERS, _LINES, _HEIGHT = 15, 8, 12


def as_picture(kind: str, value: Any) -> Pixels | bytes:
    """A sample to look at: an image as it is, four frames of a film, a sound's spectrogram, a curve for each channel of
    a series, between its own least and most, or the words of a text.
    """
    if kind == "image":
        picture: Pixels | bytes = value
        return picture
    if kind == "video":
        return in_square(film_frames(value))
    if kind == "audio":
        return spectrogram(sound_wave(value))
    return _curves(np.asarray(value, np.float64)) if kind == "series" else _card(str(value))


def _curves(series: np.ndarray) -> Pixels:
    """(T, C)"""
    from PIL import Image, ImageDraw

    canvas = Image.new("RGB", (CELL, CELL), "white")
    across = np.linspace(2, CELL - 3, len(series))
    for channel, values in enumerate(series.T):
        span = max(float(np.ptp(values)), 1e-12)
        up = CELL - 3 - (values - values.min()) / span * (CELL - 6)
        points = list(zip(across.tolist(), up.tolist(), strict=True))
        ImageDraw.Draw(canvas).line(points, fill=_COLOURS[channel % len(_COLOURS)])
    return np.asarray(canvas)


def _card(text: str) -> Pixels:
    from PIL import Image, ImageDraw

    canvas, plain = Image.new("RGB", (CELL, CELL), "white"), text.encode("ascii", "replace").decode()
    for place, line in enumerate(textwrap.wrap(plain, _LETTERS)[:_LINES]):
        ImageDraw.Draw(canvas).text((2, place * _HEIGHT), line, fill="black")
    return np.asarray(canvas)


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
