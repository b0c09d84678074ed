"""A spec against what is known of its data before any of it is read: the catalog's classes, sizes and splits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dlsvc.data.catalog import CatalogEntry, entries
from dlsvc.errors import did_you_mean
from dlsvc.spec.resolve import known_model, known_task, signature
from dlsvc.spec.schema import TrainSpec

Found = Iterator[tuple[str, str]]
Args = Mapping[str, Any]

_KEYS = {
    "image": {"image", "label"},
    "tabular": {"features", "label"},
    "image-text": {"image", "label", "tokens", "attention_mask"},
}


def catalog() -> dict[str, CatalogEntry]:
    return entries()


def is_path(source: str) -> bool:
    """Whether a source means a place, rather than a name of the catalog."""
    return "/" in source or source.startswith(".") or source.endswith((".parquet", ".csv")) or Path(source).is_dir()


def known_source(spec: TrainSpec) -> Found:
    source, known = spec.data.source, catalog()
    if source not in known and not is_path(source) and not Path(source).exists():
        hint = did_you_mean(source, known)
        yield "data.source", f"no data set is called {source!r}{hint} A path of your own has a / in it, such as ./{source}" if (
            hint.endswith("?")
        ) else f"no data set is called {source!r}{hint}; a path of your own has a / in it, such as ./{source}"
