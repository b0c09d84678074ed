"""The user's own data: a folder of images, a Parquet file or a CSV file, each with or without its own test split.

- images: `ROOT/CLASS/x.png`, or `ROOT/train/CLASS/x.png` and `ROOT/test/CLASS/x.png`; or a `metadata.csv` or
  `metadata.jsonl` beside the images, whose rows hold `file_name` and, as they are there, `label` and `text`;
- files: one `.csv` or `.parquet`, or a folder of `train*.csv` and `test*.csv` (or `.parquet`).

Without a test split of its own, one row in ten is held out by the crc32 of its file name or row number.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pyarrow.types as kinds

from dlsvc.data.catalog import held_out
from dlsvc.data.columns import ColumnReader, find_classes, is_number, parses
from dlsvc.data.folder import open_folder
from dlsvc.data.source import Source, parquet_table
from dlsvc.data.table import Group, GroupedTable, Subset, Table
from dlsvc.errors import DataError, NotFound, did_you_mean

if TYPE_CHECKING:
    from dlsvc.spec.schema import ColumnsSpec, DataSpec

FORMATS = ("image-folder", "parquet", "csv")

# Files up to this many bytes are fingerprinted by their content, larger ones by size and time of change.
_CONTENT_BYTES = 64 * 2**20


def open_user(data: DataSpec, path: Path) -> Source:
    """The source at a path. Raises DataError saying what is wrong, with the file and the row."""
    if not path.exists():
        raise NotFound(f"no file or folder {path}")
    kind = _format(data.format, path)
    if kind == "image-folder":
        return open_folder(path)
    return _open_files(kind, path, data.columns)


def _format(asked: str, path: Path) -> str:
    if asked != "auto":
        if asked not in FORMATS:
            raise DataError(f"data.format: {asked!r} isn't known{did_you_mean(asked, FORMATS)}")
        return asked
    if path.is_file():
        kind = path.suffix.removeprefix(".").lower()
        if kind not in ("csv", "parquet"):
            raise DataError(f"{path}: neither .csv nor .parquet; set data.format, or give a folder of images")
        return kind
    return next((kind for kind in ("parquet", "csv") if any(path.glob(f"train*.{kind}"))), "image-folder")


def _open_files(kind: str, path: Path, columns: ColumnsSpec) -> Source:
    files = {split: [_opened(kind, file) for file in names] for split, names in _files(kind, path).items()}
    layout = _layout(files["train"], columns)
    for file in (file for split in files.values() for file in split):
        _check_columns(file, layout)
    splits: dict[str, Callable[[], Table]] = {split: _opener(parts, layout) for split, parts in files.items()}
    if "test" not in splits:
        splits = _held_out_rows(splits["train"]())
    return Source(name=path.stem, classes=layout.names, splits=splits, features=layout.reader.features)


@dataclass(frozen=True)
class _File:
    """A file whose schema is read; `table` is there when a CSV's rows are too."""

    path: Path
    schema: Any
    table: Any = None

    def column(self, name: str) -> Any:
        return (self.table if self.table is not None else pq.read_table(self.path, columns=[name])).column(name)


@dataclass(frozen=True)
class _Layout:
    """Which columns the training files have for what, and what the classes are called."""

    reader: ColumnReader
    names: tuple[str, ...]


def _files(kind: str, path: Path) -> dict[str, list[Path]]:
    if path.is_file():
        return {"train": [path]}
    found = {split: sorted(path.glob(f"{split}*.{kind}")) for split in ("train", "test")}
    if not found["train"]:
        raise DataError(f"{path}: no train*.{kind} in the folder")
    return {split: files for split, files in found.items() if files}


def _opened(kind: str, path: Path) -> _File:
    try:
        if kind == "csv":
            table = pyarrow.csv.read_csv(path)
            file, rows = _File(path, table.schema, table), len(table)
        else:
            file, rows = _File(path, pq.read_schema(path)), pq.read_metadata(path).num_rows
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"can't read {path} as {kind}: {error}") from error
    if not rows:
        raise DataError(f"{path} has no rows")
    return file


def _opener(files: Sequence[_File], layout: _Layout) -> Callable[[], GroupedTable]:
    fingerprint = files_fingerprint([file.path for file in files])
    parts = [(file.path, dataclasses.replace(layout.reader, path=file.path)) for file in files]
    if files[0].table is None:
        return lambda: parquet_table(parts, fingerprint)
    # Read now: a CSV is in memory already, and a wrong value is better found before the cluster starts.
    groups = [_in_memory(reader, file.table) for file, (_, reader) in zip(files, parts, strict=True)]
    return lambda: GroupedTable(groups, layout.reader.columns, fingerprint)


def _in_memory(reader: ColumnReader, table: Any) -> Group:
    found = reader.read(table)
    return Group(len(table), table.nbytes, lambda: found)


def _held_out_rows(table: Table) -> dict[str, Callable[[], Table]]:
    test = np.asarray([held_out(str(row)) for row in range(len(table))], bool)
    train, rest = np.flatnonzero(~test), np.flatnonzero(test)
    return {"train": lambda: Subset(table, train), "test": lambda: Subset(table, rest)}


def _layout(files: Sequence[_File], columns: ColumnsSpec) -> _Layout:
    first = files[0]
    image, label, text = (_named(columns, field, first) for field in ("image", "label", "text"))
    features = _features(columns, first, label, automatic=not (image or text))
    if not (image or text or features):
        has = ", ".join(first.schema.names)
        raise DataError(f"{first.path}: no image, text or numeric column to learn from; it has {has}")
    names, keys = _classes(files, label) if label else ((), ())
    return _Layout(ColumnReader(first.path, image, label, text, features, keys), names)


def _check_columns(file: _File, layout: _Layout) -> None:
    for name in layout.reader.file_columns:
        if name not in file.schema.names:
            raise DataError(f"{file.path}: no column {name!r}, which {layout.reader.path.name} has")


def _named(columns: ColumnsSpec, field: str, file: _File) -> str | None:
    """The file's column for image, label or text: None when it isn't there and nobody asked for it."""
    name, known = str(getattr(columns, field)), file.schema.names
    if name in known:
        return name
    # A default name that is nearly there is a misspelling, not an absence.
    if name != field or difflib.get_close_matches(name, known, n=1, cutoff=0.75):
        raise DataError(f"{file.path}: no column {name!r} (data.columns.{field}){did_you_mean(name, known)}")
    return None


def _features(columns: ColumnsSpec, file: _File, label: str | None, *, automatic: bool) -> tuple[str, ...]:
    """The columns asked for, or every numeric one but the label."""
    known = file.schema.names
    for name in columns.features:
        if name not in known:
            raise DataError(f"{file.path}: no column {name!r} (data.columns.features){did_you_mean(name, known)}")
    if columns.features or not automatic:
        return tuple(columns.features)
    return tuple(item.name for item in file.schema if item.name != label and _is_feature(file, item))


def _is_feature(file: _File, item: Any) -> bool:
    """Numeric, or so nearly that a wrong value must have made it text: reading it then names the row."""
    if is_number(item.type):
        return True
    if file.table is None or not kinds.is_string(item.type):
        return False
    values = file.table.column(item.name).to_pylist()
    return 2 * sum(parses(value) for value in values) > len(values)


def _classes(files: Sequence[_File], label: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes' names, and how the files write them."""
    first = files[0]
    names = _huggingface_names(first.schema, label)
    if names and kinds.is_integer(first.schema.field(label).type):
        return names, tuple(map(str, range(len(names))))
    found = find_classes([file.column(label) for file in files], first.path, label)
    return found, found


def _huggingface_names(schema: Any, label: str) -> tuple[str, ...]:
    """The class names that Hugging Face's `datasets` writes into a Parquet file's metadata."""
    try:
        facts = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][label]
        return tuple(facts["names"]) if facts.get("_type") == "ClassLabel" else ()
    except (KeyError, ValueError, TypeError, AttributeError):
        return ()


def files_fingerprint(paths: Sequence[Path]) -> str:
    """sha256 over names, sizes and content; of many bytes the time of change stands for the content."""
    digest = hashlib.sha256()
    small = sum(path.stat().st_size for path in paths) < _CONTENT_BYTES
    for path in paths:
        facts = path.stat()
        digest.update(f"{path.name} {facts.st_size}\n".encode())
        digest.update(path.read_bytes() if small else str(facts.st_mtime_ns).encode())
    return digest.hexdigest()
