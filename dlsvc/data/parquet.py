"""Parquet files: tables over their row groups, and how the catalog writes its own, numpy columns to Arrow and back with
the shape of one row in the schema's metadata.

- uint8 pictures and masks up to a kilobyte: fixed-size binary; larger ones: PNG
- films (T frames stacked top to bottom): PNG
- float32 series: fixed-size lists; features of a table: one column each, by name
- encoded files: binary; texts: strings; labels: int64
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as kinds

from dlsvc.data.codecs import encode_png
from dlsvc.data.table import Columns, Group, GroupedTable
from dlsvc.errors import DataError

# What a table gives, in this order; every other column of a file is kept for people to read.
ENCODED = ("image", "mask", "audio", "video")
FED = (
    *ENCODED,
    "series",
    "boxes",
    "label",
    "text",
    "target_text",
    "question",
    "answer",
    "conversation",
    "lemmas",
    "features",
)

# Pictures up to this many bytes are kept as they are: a PNG of them would be larger and slower.
_RAW_BYTES = 1024
_ROW_GROUP = 2048


def shape_key(name: str) -> bytes:
    """Where the schema's metadata says the shape of one row of a column."""
    return f"dlsvc.{name}_shape".encode()


def write(path: Path, columns: Mapping[str, Any], features: Sequence[str] = ()) -> None:
    """Arrays and lists as one file; equal columns make equal files."""
    arrow: dict[str, Any] = {}
    metadata: dict[bytes, bytes] = {}
    for name, column in columns.items():
        if name == "features":
            arrow |= {feature: pa.array(column[:, place]) for place, feature in enumerate(features)}
            continue
        arrow[name] = _array(column)
        if not kinds.is_binary(arrow[name].type) and isinstance(column, np.ndarray) and column.ndim > 1:
            metadata[shape_key(name)] = json.dumps(column.shape[1:]).encode()
    table = pa.table(arrow).replace_schema_metadata(metadata)
    pq.write_table(table, path, row_group_size=_ROW_GROUP, compression="zstd")


def _array(column: Any) -> Any:
    if not isinstance(column, np.ndarray) or column.ndim == 1:
        return pa.array(column)
    flat = np.ascontiguousarray(column)
    if flat.dtype == np.float32:
        return pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat[0].size)
    if flat[0].nbytes <= _RAW_BYTES:
        return pa.FixedSizeBinaryArray.from_buffers(pa.binary(flat[0].nbytes), len(flat), [None, pa.py_buffer(flat)])
    return pa.array([encode_png(pixels) for pixels in flat], pa.binary())


@dataclass(frozen=True)
class StoredReader:
    """Reads back what `write` wrote: the columns of `FED`, and `uri` where a row holds encoded files."""

    path: Path
    schema: Any
    features: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: Path, features: tuple[str, ...] = ()) -> StoredReader:
        schema = pq.read_schema(path)
        return cls(path, schema, tuple(name for name in features if name in schema.names))

    @property
    def file_columns(self) -> list[str]:
        return [name for name in (*FED, *self.features) if name in self.schema.names]

    @property
    def columns(self) -> tuple[str, ...]:
        """The table's columns."""
        named = [name for name in FED if name in self.schema.names or (name == "features" and self.features)]
        uri = ["uri"] if any(kinds.is_binary(self.schema.field(name).type) for name in named if name in ENCODED) else []
        return tuple(named + uri)

    def read(self, table: Any, first_row: int = 0) -> Columns:
        """The table's columns from a run of the file's rows."""
        return {name: self._column(table, name, first_row) for name in self.columns}

    def _column(self, table: Any, name: str, first_row: int) -> Any:
        if name == "uri":
            return [f"{self.path}#{first_row + place + 1}" for place in range(len(table))]
        if name == "features":
            return np.stack([table.column(feature).to_numpy() for feature in self.features], axis=1)
        column = table.column(name).combine_chunks()
        shape = (self.schema.metadata or {}).get(shape_key(name))
        if shape:
            return _dense(column, tuple(json.loads(shape)))
        return column.to_numpy() if kinds.is_integer(column.type) else column.to_pylist()


def _dense(column: Any, shape: tuple[int, ...]) -> Any:
    if kinds.is_fixed_size_list(column.type):
        return column.flatten().to_numpy().reshape(len(column), *shape)
    width = int(np.prod(shape))
    values = np.frombuffer(column.buffers()[1], np.uint8)[column.offset * width :]
    return values[: len(column) * width].reshape(len(column), *shape)


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
