"""Opening data: a catalog set by its name, or the user's own by a path; either way splits with row access."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from dlsvc.data.catalog import CatalogEntry, entries
from dlsvc.data.convert import pull
from dlsvc.data.limit import limited
from dlsvc.data.parquet import StoredReader
from dlsvc.data.progress import Say, silent
from dlsvc.data.table import Columns, Group, GroupedTable, ResidentTable, Table
from dlsvc.errors import DataError, NotFound, UsageError, did_you_mean
from dlsvc.spec.places import is_place

if TYPE_CHECKING:
    from dlsvc.spec.schema import DataSpec

__all__ = ["ResidentTable", "Source", "Table", "open_catalog", "open_source", "parquet_table"]


@dataclass(frozen=True)
class Source:
    """A data set that is here: its facts, and `table(split)`."""

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, Callable[[], Table]]
    image_size: int | None = None
    channels: int | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    features: tuple[str, ...] = ()
    length: int | None = None
    licence: str = ""
    attribution: str = ""
    _open: dict[str, Table] = field(default_factory=dict, repr=False, compare=False)

    def table(self, split: str) -> Table:
        """The split's rows. Raises DataError when there is no such split, or nothing in it."""
        if split not in self.splits:
            raise DataError(f"{self.name} has no split {split!r}{did_you_mean(split, self.splits)}")
        if split not in self._open:
            table = self.splits[split]()
            if not len(table):
                raise DataError(f"the {split} split of {self.name} is empty")
            self._open[split] = table
        return self._open[split]


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
        from dlsvc.data.user import open_user

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


class Reader(Protocol):
    """How a run of a Parquet file's rows becomes a table's columns."""

    @property
    def columns(self) -> tuple[str, ...]: ...

    @property
    def file_columns(self) -> list[str]: ...

    def read(self, table: Any, first_row: int = 0) -> Columns: ...


def parquet_table(files: Sequence[tuple[Path, Reader]], fingerprint: str) -> GroupedTable:
    """A table over the row groups of Parquet files, mapped into memory and decoded when they are read."""
    groups = [group for path, reader in files for group in _groups(path, reader)]
    return GroupedTable(groups, files[0][1].columns, fingerprint)


def _groups(path: Path, reader: Reader) -> list[Group]:
    metadata = pq.read_metadata(path)
    groups = []
    first_row = 0
    for number in range(metadata.num_row_groups):
        facts = metadata.row_group(number)
        groups.append(Group(facts.num_rows, facts.total_byte_size, _loader(path, reader, number, first_row)))
        first_row += facts.num_rows
    return groups


def _loader(path: Path, reader: Reader, number: int, first_row: int) -> Callable[[], dict[str, object]]:
    def load() -> dict[str, object]:
        try:
            with pq.ParquetFile(path, memory_map=True) as file:
                table = file.read_row_group(number, columns=reader.file_columns)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"can't read {path}: {error}") from error
        return reader.read(table, first_row)

    return load
