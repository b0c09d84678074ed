"""`dlsvc data`: what data sets there are, what one holds, and its first pictures in a grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dlsvc.data import convert
from dlsvc.data.catalog import CatalogEntry, entries, entry, lists, trained_weights
from dlsvc.data.gallery import column_stats, draw, draw_augmented
from dlsvc.data.progress import Say, silent
from dlsvc.data.source import open_catalog, open_source
from dlsvc.data.splits import Source
from dlsvc.spec.places import is_place


def ls(home: Path) -> list[dict[str, Any]]:
    """One row a data set of the catalog, and whether it is here."""
    return [_facts(known) | {"pulled": _is_here(known, home)} for known in entries().values()]


def ls_weights(home: Path) -> list[dict[str, Any]]:
    """One row a set of trained weights, and whether it is here."""
    return [_facts(known) | {"pulled": _is_here(known, home)} for known in (trained_weights() | lists()).values()]


def pull(name: str, home: Path, say: Say = silent) -> dict[str, Any]:
    """Pull a data set of the catalog; nothing happens when it is here. Raises NotFound for an unknown name."""
    known = entry(name)
    folder = convert.pull(known, home, say)
    return _facts(known) | {"path": str(folder), "pulled": True}


def describe(
    name_or_path: str,
    home: Path,
    grid: Path | None = None,
    say: Say = silent,
    *,
    augmentations: Sequence[Any] = (),
    stats: bool = False,
) -> dict[str, Any]:
    """A data set's facts and samples per class; with `grid`, its first pictures as a PNG there; with augmentations,
    samples beside what becomes of them; with `stats`, what its columns hold.
    """
    if name_or_path in trained_weights() | lists():
        weights = entry(name_or_path)
        return _facts(weights) | {"pulled": _is_here(weights, home)}
    known = entries().get(name_or_path)
    source = open_catalog(known, home, say) if known else _open_path(name_or_path, home)
    facts: dict[str, Any] = {"name": source.name, "classes": list(source.classes)}
    facts |= _facts(known) if known else {}
    facts["splits"] = {split: _split_facts(source, split) for split in source.splits}
    if stats:
        facts["stats"] = column_stats(source)
    if augmentations:
        facts["augmented"] = draw_augmented(source, augmentations, grid)
    elif grid is not None:
        facts["grid"] = draw(source, grid)
    return facts


def _facts(known: CatalogEntry) -> dict[str, Any]:
    return {
        "name": known.name,
        "kind": known.kind,
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
