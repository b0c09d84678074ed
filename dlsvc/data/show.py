"""`dlsvc data`: what data sets there are, what one holds, and its first pictures in a grid."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsvc.data import convert
from dlsvc.data.catalog import CatalogEntry, entries, entry
from dlsvc.data.codecs import Undecodable, decode_image, encode_png
from dlsvc.data.fetch import Say, silent
from dlsvc.data.source import Source, open_catalog, open_source
from dlsvc.data.table import Table
from dlsvc.spec.places import is_place

_COLUMNS, _ROWS = 10, 6
_CELL, _CAPTION = 96, 16


def ls(home: Path) -> list[dict[str, Any]]:
    """One row a data set of the catalog, and whether it is here."""
    return [_facts(known) | {"pulled": _is_here(known, home)} for known in entries().values()]


def pull(name: str, home: Path, say: Say = silent) -> dict[str, Any]:
    """Pull a data set of the catalog; nothing happens when it is here. Raises NotFound for an unknown name."""
    known = entry(name)
    folder = convert.pull(known, home, say)
    return _facts(known) | {"path": str(folder), "pulled": True}


def describe(name_or_path: str, home: Path, grid: Path | None = None, say: Say = silent) -> dict[str, Any]:
    """A data set's facts, samples per class and first rows; with `grid`, its first pictures as a PNG there."""
    known = entries().get(name_or_path)
    source = open_catalog(known, home, say) if known else _open_path(name_or_path, home)
    facts: dict[str, Any] = {"name": source.name, "classes": list(source.classes)}
    facts |= _facts(known) if known else {}
    facts["splits"] = {split: _split_facts(source, split) for split in source.splits}
    if grid is not None:
        facts["grid"] = draw(source, grid)
    return facts


@contextlib.contextmanager
def narrated(title: str) -> Iterator[Say]:
    """Says on stderr what a pull is doing: a line that changes on a terminal, one line each elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(title) as status:
        yield status.update if console.is_terminal else console.print


def _facts(known: CatalogEntry) -> dict[str, Any]:
    return {
        "name": known.name,
        "title": known.title,
        "modality": known.modality,
        "num_classes": known.num_classes,
        "classes": list(known.classes),
        "counts": dict(known.counts),
        "image_size": known.image_size,
        "channels": known.channels,
        "features": list(known.features),
        "split_rule": known.split_rule,
        "licence": known.licence,
        "attribution": known.attribution,
        "download_bytes": known.download_bytes,
        "packages": [f"{package.kind}: {package.name} {package.version}" for package in known.packages],
    }


def _is_here(known: CatalogEntry, home: Path) -> bool:
    return (convert.dataset_dir(known, home) / "meta.json").exists()


def _open_path(path: str, home: Path) -> Source:
    from dlsvc.spec.schema import DataSpec

    named = path if is_place(path) or not Path(path).exists() else f"./{path}"
    return open_source(DataSpec(source=named), home)


def _split_facts(source: Source, split: str) -> dict[str, Any]:
    # An empty split has no table, and is nothing to stop at when only looking.
    table = source.splits[split]()
    facts: dict[str, Any] = {"samples": len(table), "fingerprint": table.fingerprint, "columns": list(table.columns)}
    if "label" in table.columns and len(table):
        labels = table.rows(np.arange(len(table), dtype=np.int64))["label"]
        counts = np.bincount(labels, minlength=len(source.classes))
        facts["per_class"] = dict(zip(source.classes, counts.tolist(), strict=True))
    return facts


def draw(source: Source, path: Path) -> str | None:
    """The first pictures of each class side by side with their labels, as PNG; None when there are none."""
    table = source.table("train")
    if "image" not in table.columns:
        return None
    rows = table.rows(_spread(table, _COLUMNS * _ROWS))
    cells = [_cell(image, _caption(rows, source, place)) for place, image in enumerate(rows["image"])]
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % _COLUMNS)
    lines = [np.concatenate(cells[first : first + _COLUMNS], axis=1) for first in range(0, len(cells), _COLUMNS)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(np.concatenate(lines)))
    return str(path)


def _spread(table: Table, count: int) -> NDArray[np.int64]:
    """Up to `count` rows at even distances, for sets that are sorted by class."""
    return np.unique(np.linspace(0, len(table) - 1, min(count, len(table))).astype(np.int64))


def _caption(rows: dict[str, Any], source: Source, place: int) -> str:
    return source.classes[int(rows["label"][place])] if "label" in rows else ""


def _cell(image: Any, caption: str) -> NDArray[np.uint8]:
    from PIL import Image, ImageDraw

    try:
        pixels = decode_image(image, 3) if isinstance(image, bytes) else image
    except Undecodable:
        pixels, caption = np.zeros((8, 8), np.uint8), "can't be decoded"
    picture = Image.fromarray(np.ascontiguousarray(pixels.squeeze())).convert("RGB")
    # Small pictures are enlarged without smoothing, so that their pixels show.
    filtering = Image.Resampling.NEAREST if max(picture.size) < _CELL else Image.Resampling.BILINEAR
    cell = Image.new("RGB", (_CELL + 4, _CELL + 4 + _CAPTION), "white")
    cell.paste(picture.resize((_CELL, _CELL), filtering), (2, 2))
    ImageDraw.Draw(cell).text((4, _CELL + 3), _shorten(caption, 15), fill="black")
    return np.asarray(cell)


def _shorten(text: str, length: int) -> str:
    plain = text.encode("ascii", "replace").decode()
    return plain if len(plain) <= length else plain[: length - 2] + ".."
