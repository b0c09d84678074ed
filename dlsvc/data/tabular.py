"""Files of rows, Parquet, CSV, JSON lines and Arrow: the runs of rows that are read at once, and how each is read.

A CSV is one run, which stays in memory: quotes may hold line ends, so that no byte of it is surely between two rows.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from dlsvc.data.location import Location, reason
from dlsvc.errors import DataError

# JSON lines are read in runs of about so many bytes: some thousands of rows, or one very long one.
_RUN_BYTES = 2**20


@dataclass(frozen=True)
class Run:
    """`num_rows` rows that are read at once: a Parquet file's row group or an Arrow file's batch `number`, or for JSON
    lines the bytes from `offset`.
    """

    number: int
    offset: int
    nbytes: int
    num_rows: int


@dataclass(frozen=True)
class RowFile:
    """A file of rows, as its index has it. Reading raises DataError with the file and, where known, the line."""

    location: Location
    kind: str
    schema: pa.Schema
    runs: tuple[Run, ...]

    @property
    def is_in_memory(self) -> bool:
        return self.kind == "csv"

    def load(self, run: Run, columns: Sequence[str]) -> pa.Table:
        """Those columns of a run's rows."""
        if self.kind == "csv":
            return _csv(self.location).select(columns)
        try:
            return _LOADERS[self.kind](self, run, list(columns))
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"can't read {self.location}: {reason(error)}") from error

    def column(self, name: str) -> pa.ChunkedArray:
        """A whole column."""
        return pa.concat_tables([self.load(run, [name]) for run in self.runs]).column(name)

    @classmethod
    def scan(cls, location: Location, kind: str) -> RowFile:
        """The file with its runs found. Raises DataError when it can't be read, or has no rows."""
        try:
            schema, runs = _SCANNERS[kind](location)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"can't read {location} as {kind}: {reason(error)}") from error
        if not any(run.num_rows for run in runs):
            raise DataError(f"{location} has no rows")
        return cls(location, kind, schema, tuple(runs))


def schema_to_text(schema: pa.Schema) -> str:
    """For an index's facts, which are JSON."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def schema_from_text(text: str) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))


_Scanned = tuple[pa.Schema, list[Run]]


@functools.lru_cache(maxsize=8)
def _csv(location: Location) -> pa.Table:
    with location.open() as file:
        return pyarrow.csv.read_csv(file)


def _scan_csv(location: Location) -> _Scanned:
    # What the file holds now, also where an older state of it was read before.
    _csv.cache_clear()
    table = _csv(location)
    return table.schema, [Run(0, 0, table.nbytes, len(table))]


def _parquet(location: Location) -> pq.ParquetFile:
    if location.is_local:
        return pq.ParquetFile(location.path, memory_map=True)
    return pq.ParquetFile(location.path, filesystem=location.filesystem, pre_buffer=True)


def _scan_parquet(location: Location) -> _Scanned:
    with _parquet(location) as file:
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        runs = [Run(number, 0, group.total_byte_size, group.num_rows) for number, group in enumerate(groups)]
        return file.schema_arrow, runs


def _load_parquet(file: RowFile, run: Run, columns: list[str]) -> pa.Table:
    with _parquet(file.location) as opened:
        return opened.read_row_group(run.number, columns=columns)


def _scan_jsonl(location: Location) -> _Scanned:
    runs, schemas, line = [], [], 1
    for number, (offset, data) in enumerate(_line_runs(location)):
        table = _json_table(data, f"{location}:%d", line)
        runs.append(Run(number, offset, len(data), len(table)))
        schemas.append(table.schema)
        line += data.count(b"\n")
    try:
        # A number that is whole in one run and isn't in another is no contradiction.
        return pa.unify_schemas(schemas, promote_options="permissive"), runs
    except pa.ArrowException as error:
        raise DataError(f"{location}: a column isn't of one type: {error}") from error


def _line_runs(location: Location) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of runs of whole lines."""
    offset = 0
    with location.open() as file:
        data = bytes(file.read(_RUN_BYTES))
        while following := bytes(file.read(_RUN_BYTES)):
            whole, end, rest = data.rpartition(b"\n")
            if end:
                yield offset, whole + end
                offset += len(whole) + 1
            data = rest + following
        if data:
            yield offset, data


def _json_table(data: bytes, where: str, first_line: int, schema: pa.Schema | None = None) -> pa.Table:
    rows = []
    for line, text in enumerate(data.split(b"\n"), start=first_line):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except ValueError as error:
            raise DataError(f"{where % line}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise DataError(f"{where % line}: not an object of columns")
        rows.append(row)
    return _from_rows(rows, where % first_line, schema)


def _from_rows(rows: list[dict[str, Any]], where: str, schema: pa.Schema | None) -> pa.Table:
    if schema is not None:
        return pa.Table.from_pylist(rows, schema=schema)
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {}
    for name in names:
        try:
            columns[name] = pa.array([row.get(name) for row in rows])
        except pa.ArrowException as error:
            raise DataError(f"{where} and after, column {name!r}: values of several types: {error}") from error
    return pa.table(columns)


def _load_jsonl(file: RowFile, run: Run, columns: list[str]) -> pa.Table:
    data = file.location.read_range(run.offset, run.nbytes)
    wanted = pa.schema([file.schema.field(name) for name in columns])
    return _json_table(data, f"{file.location}, byte {run.offset}, line %d from there", 1, wanted)


def _scan_arrow(location: Location) -> _Scanned:
    batches = _batches(location)
    runs = [Run(number, 0, batch.nbytes, len(batch)) for number, batch in enumerate(batches)]
    return (batches[0].schema if batches else pa.schema([])), runs


def _load_arrow(file: RowFile, run: Run, columns: list[str]) -> pa.Table:
    return pa.table(_batches(file.location)[run.number]).select(columns)


def _batches(location: Location) -> Sequence[pa.Table]:
    """Of a file on this disk every batch, mapped and not read; of another place's, which is fetched whole, one."""
    return _mapped(location.path) if location.is_local else _fetched(location)


@functools.lru_cache(maxsize=1024)
def _mapped(path: str) -> tuple[pa.Table, ...]:
    with pa.memory_map(path) as file, pa.ipc.open_stream(file) as stream:
        return tuple(pa.Table.from_batches([batch]) for batch in stream)


# A few: a shard of `datasets` has up to 500 MB.
@functools.lru_cache(maxsize=2)
def _fetched(location: Location) -> tuple[pa.Table, ...]:
    with location.open() as file, pa.ipc.open_stream(file) as stream:
        return (stream.read_all(),)


_SCANNERS = {"csv": _scan_csv, "parquet": _scan_parquet, "jsonl": _scan_jsonl, "arrow": _scan_arrow}
_LOADERS = {"parquet": _load_parquet, "jsonl": _load_jsonl, "arrow": _load_arrow}
