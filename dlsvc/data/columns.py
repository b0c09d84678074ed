"""How a file's columns, CSV or Parquet, become a table's: labels by class, features side by side, images as bytes."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds
from numpy.typing import NDArray

from dlsvc.data.codecs import together, unreadable
from dlsvc.data.location import Location, reason
from dlsvc.data.table import BYTES_COLUMNS, Columns
from dlsvc.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from dlsvc.spec.schema import ColumnsSpec

# A table's columns of strings.
TEXTS = ("text", "target_text", "question", "answer", "conversation")
# What a file may have for a table beside its features: the fields of `data.columns`.
FIELDS = (*BYTES_COLUMNS, "label", *TEXTS, "series")
# Names that are guessed as misspelt rather than absent.
_USUAL = ("image", "label", "text")

# Integer labels beyond this are ids or measurements, not classes.
MAX_CLASSES = 10_000


@dataclass(frozen=True)
class ColumnReader:
    """Which columns of a file are read, and how. Rows are counted from 1 in messages and uris.

    `others` are pairs of a table's column and the file's, for what has no field of its own here.
    """

    path: Path | Location
    image: str | None = None
    label: str | None = None
    text: str | None = None
    features: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    others: tuple[tuple[str, str], ...] = ()

    @property
    def named(self) -> dict[str, str]:
        """The file's column of each column of the table, but for the features."""
        fields = {"image": self.image, "label": self.label, "text": self.text, **dict(self.others)}
        return {field: name for field, name in fields.items() if name}

    @property
    def media(self) -> tuple[str, ...]:
        """The table's columns of encoded files."""
        return tuple(name for name in BYTES_COLUMNS if name in self.named)

    @property
    def columns(self) -> tuple[str, ...]:
        """The table's columns."""
        added = (*(("uri",) if self.media else ()), *(("features",) if self.features else ()))
        return (*self.named, *added)

    @property
    def file_columns(self) -> list[str]:
        return list(dict.fromkeys([*self.named.values(), *self.features]))

    def read(self, table: Any, first_row: int = 0) -> Columns:
        """The table's columns from a run of the file's rows. Raises DataError naming the row of a wrong value."""
        found = {field: self._column(field, table.column(name), first_row) for field, name in self.named.items()}
        if self.media:
            found["uri"] = [f"{self.path}#{first_row + place + 1}" for place in range(len(table))]
        if self.features:
            found["features"] = np.stack([self._numbers(table, name, first_row) for name in self.features], axis=1)
        return found

    def files(self, table: Any) -> list[bytes]:
        """Every encoded file of some rows."""
        return [data for field in self.media for data in self._files(field, table.column(self.named[field]))]

    def _column(self, field: str, column: Any, first_row: int) -> Any:
        if field == "label":
            return self._labels(column, first_row)
        if field == "series":
            return self._series(column, first_row)
        return self._files(field, column) if field in BYTES_COLUMNS else list(map(_string, column.to_pylist()))

    def _files(self, field: str, column: Any) -> list[bytes]:
        """Bytes as they stand there, or of the files that are named, also in the structs of Hugging Face."""
        return [self._file(field, value) for value in column.to_pylist()]

    def _file(self, field: str, value: Any) -> bytes:
        if isinstance(value, list) and value:
            return together([self._file(field, one) for one in value])
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, bytes):
            return value
        if not value or not isinstance(value, str):
            return unreadable(f"the row has no {field}")
        try:
            return (self.path.parent / value).read_bytes()
        except OSError as error:
            return unreadable(f"can't read the {field} file {value!r}: {reason(error)}")

    def _series(self, column: Any, first_row: int) -> NDArray[np.float32]:
        """Lists (T) or (T, C), all of one shape, as (B, T, C). What is missing, a number or a whole row, is NaN, which
        makes a bad sample.
        """
        rows = column.to_pylist()
        whole = next((place for place, row in enumerate(rows) if row is not None), None)
        shape = (0, 0) if whole is None else self._series_shape(rows[whole], first_row + whole)
        found = np.empty((len(rows), *shape), np.float32)
        for place, row in enumerate(rows):
            try:
                with np.errstate(over="ignore"):  # what float32 can't hold isn't finite, and found when it is decoded
                    found[place] = np.nan if row is None else row
            except (TypeError, ValueError, OverflowError) as error:
                message = f"not numbers of shape {shape} (steps, channels), as in row {first_row + (whole or 0) + 1}"
                raise self._wrong(first_row + place, self.named["series"], message) from error
        return found if found.ndim == 3 else found[..., None]

    def _series_shape(self, row: Any, number: int) -> tuple[int, ...]:
        try:
            return np.shape(row)
        except ValueError as error:
            raise self._wrong(number, self.named["series"], "its steps don't all have as many numbers") from error

    def _labels(self, column: Any, first_row: int) -> NDArray[np.int64]:
        values = label_names(column)
        index = {name: number for number, name in enumerate(self.classes)}
        found = np.asarray([index.get(value, -1) if value is not None else -1 for value in values], np.int64)
        if len(found) and found.min() < 0:
            place = int(np.argmin(found))
            known = ", ".join(self.classes[:12]) + (", ..." if len(self.classes) > 12 else "")
            said = "is missing" if values[place] is None else f"is {values[place]!r}, not one of {known}"
            raise self._wrong(first_row + place, self.label, f"the label {said}")
        return found

    def _numbers(self, table: Any, name: str, first_row: int) -> NDArray[np.float32]:
        column = table.column(name)
        if not is_number(column.type):
            values = column.to_pylist()
            place = next((place for place, value in enumerate(values) if not parses(value)), 0)
            raise self._wrong(first_row + place, name, f"{values[place]!r} is not a number, which a feature must be")
        numbers: NDArray[np.float32] = pc.cast(column, pa.float32(), safe=False).to_numpy()
        if not np.isfinite(numbers).all():
            place = int(np.argmin(np.isfinite(numbers)))
            raise self._wrong(first_row + place, name, "the feature is missing or not finite")
        return numbers

    def _wrong(self, row: int, column: str | None, message: str) -> DataError:
        return DataError(f"{self.path}, row {row + 1}, column {column!r}: {message}")


def is_number(kind: Any) -> bool:
    return bool(kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_boolean(kind) or kinds.is_decimal(kind))


def parses(value: Any) -> bool:
    """Whether a value reads as a number."""
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def label_names(column: Any) -> list[str | None]:
    """Labels as the names of their classes: an integer's is its digits, also when a float holds it."""
    values = column.to_pylist()
    if kinds.is_floating(column.type):
        return [_whole(value) for value in values]
    if kinds.is_boolean(column.type):
        return [None if value is None else str(value).lower() for value in values]
    return [None if value is None or value == "" else str(value) for value in values]


def _whole(value: float | None) -> str | None:
    if value is None or np.isnan(value):
        return None
    return str(int(value)) if value == int(value) else str(value)


def _string(value: Any) -> str:
    """Lists, such as the turns of a conversation, as JSON."""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return "" if value is None else str(value)


def named(columns: ColumnsSpec, field: str, known: Collection[str], place: object) -> str | None:
    """The file's column for a field: None when it isn't there and nobody asked for it. `place` is for the message."""
    name = str(getattr(columns, field))
    if name in known:
        return name
    # A default name that is nearly there is a misspelling, not an absence.
    misspelt = field in _USUAL and difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    if name != field or misspelt:
        raise DataError(f"{place}: no column {name!r} (data.columns.{field}){did_you_mean(name, known)}")
    return None


def find_classes(columns: Sequence[Any], path: object, name: str) -> tuple[str, ...]:
    """The classes that labels name: sorted names, or 0 to the largest integer."""
    found: set[str] = set()
    for column in columns:
        found |= {value for value in label_names(column) if value is not None}
    if not found:
        raise DataError(f"{path}, column {name!r}: every label is missing")
    numeric = all(kinds.is_integer(column.type) or kinds.is_floating(column.type) for column in columns)
    if not numeric:
        return tuple(sorted(found))
    wrong = sorted(value for value in found if not value.isdecimal() or int(value) >= MAX_CLASSES)
    if wrong:
        raise DataError(
            f"{path}, column {name!r}: {wrong[0]} is no class; integer labels run from 0 to the number of classes - 1"
        )
    return tuple(str(number) for number in range(max(map(int, found)) + 1))
