"""How a file's columns, CSV or Parquet, become a table's: labels by class, features side by side, images as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds
from numpy.typing import NDArray

from dlsvc.data.table import Columns
from dlsvc.errors import DataError

# Integer labels beyond this are ids or measurements, not classes.
MAX_CLASSES = 10_000


@dataclass(frozen=True)
class ColumnReader:
    """Which columns of a file are read, and how. Rows are counted from 1 in messages and uris."""

    path: Path
    image: str | None = None
    label: str | None = None
    text: str | None = None
    features: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    image_shape: tuple[int, ...] | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The table's columns."""
        images = () if not self.image else ("image",) if self.image_shape else ("image", "uri")
        named = [name for name, column in (("label", self.label), ("text", self.text)) if column]
        return (*images, *named, *(("features",) if self.features else ()))

    @property
    def file_columns(self) -> list[str]:
        return [name for name in (self.image, self.label, self.text, *self.features) if name]

    def read(self, table: Any, first_row: int = 0) -> Columns:
        """The table's columns from a run of the file's rows. Raises DataError naming the row of a wrong value."""
        found: Columns = {}
        if self.image:
            found["image"] = self._images(table.column(self.image), first_row)
        if self.image and not self.image_shape:
            found["uri"] = [f"{self.path}#{first_row + place + 1}" for place in range(len(table))]
        if self.label:
            found["label"] = self._labels(table.column(self.label), first_row)
        if self.text:
            found["text"] = [value if value is not None else "" for value in table.column(self.text).to_pylist()]
        if self.features:
            found["features"] = np.stack([self._numbers(table, name, first_row) for name in self.features], axis=1)
        return found

    def _images(self, column: Any, first_row: int) -> Any:
        if self.image_shape:
            values = column.combine_chunks()
            width = int(np.prod(self.image_shape))
            pixels = np.frombuffer(values.buffers()[1], np.uint8)[values.offset * width :]
            return pixels[: len(values) * width].reshape(len(values), *self.image_shape)
        if kinds.is_struct(column.type):
            column = pc.struct_field(column, "bytes")
        values = column.to_pylist()
        if kinds.is_string(column.type) or kinds.is_large_string(column.type):
            return [self._image_file(value, first_row + place) for place, value in enumerate(values)]
        return [value or b"" for value in values]

    def _image_file(self, name: str | None, row: int) -> bytes:
        try:
            return (self.path.parent / (name or "")).read_bytes()
        except OSError as error:
            raise self._wrong(row, self.image, f"can't read the image file {name!r}: {error.strerror}") from error

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


def find_classes(columns: Sequence[Any], path: Path, name: str) -> tuple[str, ...]:
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
