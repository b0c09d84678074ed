"""Opening data: a catalog set by its name, or the user's own by a path; either way splits with row access."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dlsvc.data.catalog import CatalogEntry, entries
from dlsvc.data.convert import pull
from dlsvc.data.limit import limited
from dlsvc.data.parquet import StoredReader, parquet_table
from dlsvc.data.progress import Say, silent
from dlsvc.data.splits import Source
from dlsvc.data.table import Table
from dlsvc.data.user import open_user
from dlsvc.errors import NotFound, UsageError, did_you_mean
from dlsvc.spec.places import is_place

if TYPE_CHECKING:
    from dlsvc.spec.schema import DataSpec


def open_source(data: DataSpec, home: Path, say: Say = silent, *, seed: int = 0) -> Source:
    """The source that a spec's data section names; a catalog set is pulled when it isn't there. The spec's seed draws
    what `data.limit` leaves of the training split.
    """
    return limited(_whole(data, home, say), data.limit, seed)


def _whole(data: DataSpec, home: Path, say: Say) -> Source:
    known = entries()
    if data.source in known:
        return open_catalog(known[data.source], home, say)
    if is_place(data.source):
        return open_user(data, data.source, home, say)
    raise NotFound(
        f"no data set is called {data.source!r}{did_you_mean(data.source, known)} (a path has a / in it, as ./mine)"
    )


def open_catalog(entry: CatalogEntry, home: Path, say: Say = silent) -> Source:
    """A data set of the catalog, pulled when it isn't here. Raises UsageError for weights."""
    if entry.kind == "lists":
        raise UsageError(f"{entry.name} is what words are measured by, not data to train on")
    if entry.kind == "weights":
        raise UsageError(f"{entry.name} is a trained model's weights, not data to train on; init_from takes weights")
    folder = pull(entry, home, say)
    fingerprints = json.loads((folder / "meta.json").read_text())["fingerprint"]

    def opener(split: str) -> Callable[[], Table]:
        return lambda: _catalog_table(entry, folder / f"{split}.parquet", fingerprints[split])

    return Source(
        name=entry.name,
        classes=entry.classes,
        splits={split: opener(split) for split in entry.counts},
        image_size=entry.image_size,
        channels=entry.channels,
        mean=entry.mean,
        std=entry.std,
        features=entry.features,
        length=entry.length,
        licence=entry.licence,
        attribution=entry.attribution,
    )


def _catalog_table(entry: CatalogEntry, path: Path, fingerprint: str) -> Table:
    return parquet_table([(path, StoredReader.open(path, entry.features))], fingerprint)
