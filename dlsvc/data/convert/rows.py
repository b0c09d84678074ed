"""What a converter gives: rows, each with the split that it belongs to; and how they become columns."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from dlsvc.data.catalog import CatalogEntry
from dlsvc.data.codecs import Pixels

# A column's value by its name: an array (stacked), an int (int64), or str, bytes, a list (kept as they are).
Row = dict[str, Any]
Rows = Iterator[tuple[str, Row]]
# (package, which files) -> (name, content) of those files.
Read = Callable[[str, Callable[[str], bool]], Iterator[tuple[str, bytes]]]
Converter = Callable[[CatalogEntry, Read], Rows]


def split_of(test: bool) -> str:
    return "test" if test else "train"


def columns_by_split(rows: Iterable[tuple[str, Row]]) -> dict[str, dict[str, Any]]:
    """Each split's columns: arrays, or lists."""
    found: dict[str, dict[str, list[Any]]] = {}
    for split, row in rows:
        columns = found.setdefault(split, {name: [] for name in row})
        for name, value in row.items():
            columns[name].append(value)
    return {split: {name: _column(values) for name, values in columns.items()} for split, columns in found.items()}


def _column(values: list[Any]) -> Any:
    if isinstance(values[0], np.ndarray):
        return np.stack(values)
    return np.asarray(values, np.int64) if isinstance(values[0], int | np.integer) else values


def one(found: Iterator[tuple[str, bytes]]) -> bytes:
    """The content of the only file."""
    return next(found)[1]


def opened(data: bytes, mode: str = "RGBA") -> Image.Image:
    """A picture of a package, decoded."""
    with Image.open(io.BytesIO(data)) as image:
        return image.convert(mode)


def on_white(image: Image.Image) -> Pixels:
    """RGBA as RGB pixels (H, W, 3)."""
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))


def centred(image: Image.Image, size: int, colour: tuple[int, int, int, int] | str) -> Image.Image:
    """An RGBA picture shrunk to fit size x size, in the middle of a square of a colour."""
    small = image.copy()
    small.thumbnail((size, size))
    square = Image.new("RGBA", (size, size), colour)
    square.alpha_composite(small, ((size - small.width) // 2, (size - small.height) // 2))
    return square
