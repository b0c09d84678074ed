"""Files of rows become a source: which columns are for what, what the classes are called, how the splits are read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.types as kinds

from dlsvc.data.catalog import held_out
from dlsvc.data.columns import FIELDS, ColumnReader, find_classes, is_number, named, parses
from dlsvc.data.index import Index
from dlsvc.data.location import Location
from dlsvc.data.splits import Source
from dlsvc.data.table import BYTES_COLUMNS, Group, GroupedTable, Subset, Table
from dlsvc.data.tabular import RowFile, Run, schema_from_text, schema_to_text
from dlsvc.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from dlsvc.spec.schema import ColumnsSpec

# Names of a file's column that a field takes when its own isn't there.
_ALSO = {"conversation": "conversations"}
# Rows of a file in memory that are made into columns at once.
_SLICE = 1024
# Rows that are asked how large the files are that they name.
_ASKED = 32

Splits = Mapping[str, Sequence[RowFile]]


@dataclass(frozen=True)
class _Layout:
    """Which columns the training files have for what, and what the classes are called."""

    reader: ColumnReader
    names: tuple[str, ...]


def index_rows(root: Location, files: Mapping[str, Sequence[str]], kind: str, columns: ColumnsSpec, mark: str) -> Index:
    """The index of the splits' files: a row a run, and the layout. Raises DataError naming what is wrong, and where."""
    splits = {split: [RowFile.scan(root / name, kind) for name in names] for split, names in files.items()}
    layout = _layout(splits["train"], columns)
    for file in (file for parts in splits.values() for file in parts):
        _check_columns(file, layout)
    facts = {
        "fingerprint": mark,
        "classes": [list(layout.names), list(layout.reader.classes)],
        "row_bytes": _named_bytes(splits["train"][0], layout.reader),
        "schemas": {str(place): schema_to_text(file.schema) for place, (_, _, file) in enumerate(_each(files, splits))},
    }
    rows = [
        {"split": split, "file": name, "place": place, **dataclasses.asdict(run)}
        for place, (split, name, file) in enumerate(_each(files, splits))
        for run in file.runs
    ]
    return Index(pa.Table.from_pylist(rows), facts)


def _each(files: Mapping[str, Sequence[str]], splits: Splits) -> list[tuple[str, str, RowFile]]:
    return [(split, *pair) for split, names in files.items() for pair in zip(names, splits[split], strict=True)]


def open_rows(index: Index, root: Location, kind: str, columns: ColumnsSpec, name: str) -> Source:
    """The source of an index. Without a test split one row in ten is held out, by the crc32 of its number."""
    files = _files(index, root, kind)
    layout = _layout(files["train"], columns, index.facts["classes"])
    fingerprint = str(index.facts["fingerprint"])
    splits: dict[str, Callable[[], Table]] = {}
    for split, parts in files.items():
        splits[split] = _opener(
            parts, layout, int(index.facts["row_bytes"]), hashlib.sha256(f"{fingerprint} {split}".encode()).hexdigest()
        )
    if "test" not in splits:
        splits |= _held_out_rows(splits["train"]())
    return Source(name=name, classes=layout.names, splits=splits, features=layout.reader.features)


def _files(index: Index, root: Location, kind: str) -> dict[str, list[RowFile]]:
    runs: dict[tuple[int, str, str], list[Run]] = {}
    for row in index.rows.to_pylist():
        file = (row.pop("place"), row.pop("split"), row.pop("file"))
        runs.setdefault(file, []).append(Run(**row))
    found: dict[str, list[RowFile]] = {}
    for (place, split, name), parts in sorted(runs.items()):
        schema = schema_from_text(index.facts["schemas"][str(place)])
        found.setdefault(split, []).append(RowFile(root / name, kind, schema, tuple(parts)))
    return found


def _opener(files: Sequence[RowFile], layout: _Layout, named: int, fingerprint: str) -> Callable[[], GroupedTable]:
    groups = [group for file in files for group in _groups(file, layout.reader)]
    whole = [dataclasses.replace(group, nbytes=group.nbytes + group.num_rows * named) for group in groups]
    return lambda: GroupedTable(whole, layout.reader.columns, fingerprint)


def _named_bytes(file: RowFile, reader: ColumnReader) -> int:
    """What the files that a row only names take, as some rows have it: it decides whether all fits in memory."""
    names = [reader.named[field] for field in reader.media]
    named = [name for name in names if _names_files(file.schema.field(name).type)]
    if not named:
        return 0
    table = file.load(file.runs[0], reader.file_columns)
    few = table.take(np.unique(np.linspace(0, len(table) - 1, _ASKED).astype(np.int64)))
    return sum(len(data) for data in reader.files(few)) // len(few)


def _names_files(kind: Any) -> bool:
    """Whether values are names, or lists of them."""
    return bool(kinds.is_string(kind.value_type if kinds.is_list(kind) else kind))


def _groups(file: RowFile, reader: ColumnReader) -> list[Group]:
    reader = dataclasses.replace(reader, path=file.location)
    if file.is_in_memory:
        return _slices(file, reader)
    starts = np.cumsum([0, *(run.num_rows for run in file.runs)]).tolist()
    return [_group(file, reader, run, start) for run, start in zip(file.runs, starts, strict=False)]


def _group(file: RowFile, reader: ColumnReader, run: Run, start: int) -> Group:
    return Group(run.num_rows, run.nbytes, lambda: reader.read(file.load(run, reader.file_columns), start))


def _slices(file: RowFile, reader: ColumnReader) -> list[Group]:
    table = file.load(file.runs[0], reader.file_columns)
    # Read once now, but for the files that it names: a wrong value is better found before the cluster starts.
    plain = tuple(pair for pair in reader.others if pair[0] not in BYTES_COLUMNS)
    dataclasses.replace(reader, image=None, others=plain).read(table)
    parts = [(first, table.slice(first, _SLICE)) for first in range(0, len(table), _SLICE)]
    return [_slice(reader, part, first) for first, part in parts]


def _slice(reader: ColumnReader, part: pa.Table, first: int) -> Group:
    return Group(len(part), part.nbytes, lambda: reader.read(part, first))


def _held_out_rows(table: Table) -> dict[str, Callable[[], Table]]:
    test = np.asarray([held_out(str(row)) for row in range(len(table))], bool)
    train, rest = np.flatnonzero(~test), np.flatnonzero(test)
    return {"train": lambda: Subset(table, train), "test": lambda: Subset(table, rest)}


def _layout(files: Sequence[RowFile], columns: ColumnsSpec, classes: Sequence[Sequence[str]] | None = None) -> _Layout:
    first = files[0]
    fields = {field: name for field in FIELDS if (name := _column(columns, field, first))}
    image, label, text = (fields.pop(field, None) for field in ("image", "label", "text"))
    features = _features(columns, first, label, automatic=not (image or text or fields))
    if not (image or text or features or fields):
        has = ", ".join(first.schema.names)
        raise DataError(f"{first.location}: no image, audio, text or numeric column to learn from; it has {has}")
    names, keys = classes or (_classes(files, label) if label else ((), ()))
    others = tuple(fields.items())
    reader = ColumnReader(first.location, image, label, text, features, tuple(keys), others=others)
    return _Layout(reader, tuple(names))


def _column(columns: ColumnsSpec, field: str, file: RowFile) -> str | None:
    also = _ALSO.get(field)
    found = named(columns, field, file.schema.names, file.location)
    return found or (also if also in file.schema.names else None)


def _check_columns(file: RowFile, layout: _Layout) -> None:
    for name in layout.reader.file_columns:
        if name not in file.schema.names:
            raise DataError(f"{file.location}: no column {name!r}, which {layout.reader.path.name} has")


def _features(columns: ColumnsSpec, file: RowFile, label: str | None, *, automatic: bool) -> tuple[str, ...]:
    """The columns asked for, or every numeric one but the label."""
    known = file.schema.names
    for name in columns.features:
        if name not in known:
            raise DataError(f"{file.location}: no column {name!r} (data.columns.features){did_you_mean(name, known)}")
    if columns.features or not automatic:
        return tuple(columns.features)
    return tuple(item.name for item in file.schema if item.name != label and _is_feature(file, item))


def _is_feature(file: RowFile, item: Any) -> bool:
    """Numeric, or so nearly that a wrong value must have made it text: reading it then names the row."""
    if is_number(item.type):
        return True
    if not file.is_in_memory or not kinds.is_string(item.type):
        return False
    values = file.column(item.name).to_pylist()
    return 2 * sum(parses(value) for value in values) > len(values)


def _classes(files: Sequence[RowFile], label: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes' names, and how the files write them."""
    first = files[0]
    names = _huggingface_names(first.schema, label)
    if names and kinds.is_integer(first.schema.field(label).type):
        return names, tuple(map(str, range(len(names))))
    found = find_classes([file.column(label) for file in files], first.location, label)
    return found, found


def _huggingface_names(schema: Any, label: str) -> tuple[str, ...]:
    """The class names that Hugging Face's `datasets` writes into a file's metadata."""
    try:
        facts = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][label]
        return tuple(facts["names"]) if facts.get("_type") == "ClassLabel" else ()
    except (KeyError, ValueError, TypeError, AttributeError):
        return ()
