"""Row access to one split: `rows(ids)` for feeds, `arrays()` for what fits in memory.

Columns, where a table has them: `image` (encoded bytes, or uint8 arrays (B, H, W) or (B, H, W, C)), `mask` (encoded PNG
of class ids, or uint8 (B, H, W)), `audio` (encoded bytes, or float32 (B, T)), `video` (encoded bytes), `label` int64,
`features` float32 (B, F), `series` float32 (B, T, C), strings such as `text`, and `uri` (where encoded bytes come from,
for messages).
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Columns = dict[str, Any]

# What the row groups that a table keeps at hand may take.
CACHE_BYTES = 256 * 2**20

# Rows that are read at once where only a part of each is wanted.
_CHUNK = 8192

# Columns of encoded files; every other column of variable length holds strings.
BYTES_COLUMNS = ("image", "mask", "audio", "video")

# Columns of strings of any length are kept as two arrays, so that Ray maps them from shared memory without a copy.
_BYTES = ".bytes"
_OFFSETS = ".offsets"


class Table(ABC):
    """One split of a source."""

    columns: tuple[str, ...]
    nbytes: int
    _fingerprint: str = ""

    @property
    def fingerprint(self) -> str:
        """sha256 that changes with the content."""
        return self._fingerprint

    @property
    def groups(self) -> tuple[int, ...]:
        """Row counts of consecutive runs that are best read together; () where any row is read as fast as another."""
        return ()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def rows(self, ids: Ids) -> Columns:
        """The columns of some rows, in the order of the ids: arrays, or lists of bytes or str."""

    def labels(self) -> Ids | None:
        """Every row's label, or None where there are none."""
        if "label" not in self.columns:
            return None
        return np.concatenate([self.rows(ids)["label"] for ids in chunks(len(self), _CHUNK)])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything, as arrays that `ResidentTable` takes."""
        return pack(self.rows(np.arange(len(self), dtype=np.int64)))


def pack(columns: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Columns as arrays only: a list becomes `name.bytes` (uint8) and `name.offsets` (int64)."""
    found: dict[str, NDArray[Any]] = {}
    for name, column in columns.items():
        if isinstance(column, np.ndarray):
            found[name] = column
            continue
        values = [value.encode() if isinstance(value, str) else value for value in column]
        found[name + _BYTES] = np.frombuffer(b"".join(values), np.uint8)
        found[name + _OFFSETS] = np.cumsum([0, *map(len, values)], dtype=np.int64)
    return found


@dataclass(frozen=True)
class _Ragged:
    """A column of bytes or str in two arrays."""

    data: NDArray[np.uint8]
    offsets: Ids
    is_text: bool

    def take(self, ids: Ids) -> list[Any]:
        bounds = zip(self.offsets[ids].tolist(), self.offsets[ids + 1].tolist(), strict=True)
        values = [self.data[first:last].tobytes() for first, last in bounds]
        return [value.decode() for value in values] if self.is_text else values


class ResidentTable(Table):
    """A table in memory, from the arrays of another table's `arrays()`."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], fingerprint: str = "") -> None:
        self._dense = {name: array for name, array in arrays.items() if not name.endswith((_BYTES, _OFFSETS))}
        ragged = [name.removesuffix(_BYTES) for name in arrays if name.endswith(_BYTES)]
        self._ragged = {
            name: _Ragged(arrays[name + _BYTES], arrays[name + _OFFSETS], is_text=name not in BYTES_COLUMNS)
            for name in ragged
        }
        self._arrays = dict(arrays)
        self.columns = (*self._dense, *self._ragged)
        self.nbytes = sum(array.nbytes for array in arrays.values())
        self._fingerprint = fingerprint

    def __len__(self) -> int:
        lengths = [len(array) for array in self._dense.values()]
        return (lengths or [len(column.offsets) - 1 for column in self._ragged.values()] or [0])[0]

    @property
    def fingerprint(self) -> str:
        # Found when it is asked for: it reads everything, and workers have no use for it.
        self._fingerprint = self._fingerprint or content_fingerprint(self._arrays)
        return self._fingerprint

    def rows(self, ids: Ids) -> Columns:
        dense: Columns = {name: array[ids] for name, array in self._dense.items()}
        return dense | {name: column.take(ids) for name, column in self._ragged.items()}

    def arrays(self) -> dict[str, NDArray[Any]]:
        return dict(self._arrays)


@dataclass(frozen=True)
class Group:
    """A run of rows that is read at once, and how."""

    num_rows: int
    nbytes: int
    load: Callable[[], Columns]


class GroupedTable(Table):
    """A table in files, read group by group; the groups used last stay at hand."""

    def __init__(self, groups: Sequence[Group], columns: tuple[str, ...], fingerprint: str) -> None:
        self.columns = columns
        self._fingerprint = fingerprint
        self.nbytes = sum(group.nbytes for group in groups)
        self._groups = [group for group in groups if group.num_rows]
        self._ends = np.cumsum([group.num_rows for group in self._groups], dtype=np.int64)
        kept = CACHE_BYTES * max(1, len(self._groups)) // max(1, self.nbytes)
        self._load = functools.lru_cache(maxsize=max(1, min(64, kept)))(lambda place: self._groups[place].load())

    @property
    def groups(self) -> tuple[int, ...]:
        return tuple(group.num_rows for group in self._groups)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def rows(self, ids: Ids) -> Columns:
        places = np.searchsorted(self._ends, ids, side="right")
        starts = np.concatenate([[0], self._ends[:-1]]).astype(np.int64)
        parts = {int(place): self._load(int(place)) for place in np.unique(places)} or {0: self._load(0)}
        return {name: _gather(name, parts, places, ids - starts[places]) for name in self.columns}


def _gather(name: str, parts: Mapping[int, Columns], places: Ids, local: Ids) -> Any:
    first = next(iter(parts.values()))[name]
    if not isinstance(first, np.ndarray):
        return [parts[place][name][row] for place, row in zip(places.tolist(), local.tolist(), strict=True)]
    found = np.empty((len(local), *first.shape[1:]), first.dtype)
    for place, part in parts.items():
        here = places == place
        found[here] = part[name][local[here]]
    return found


class Subset(Table):
    """Some rows of a table. Rows in their order keep its groups, each with fewer rows."""

    def __init__(self, table: Table, ids: Ids) -> None:
        self._table = table
        self._ids = ids
        self.columns = table.columns
        self.nbytes = table.nbytes * len(ids) // max(1, len(table))
        self._fingerprint = hashlib.sha256(table.fingerprint.encode() + ids.astype("<i8").tobytes()).hexdigest()

    @property
    def groups(self) -> tuple[int, ...]:
        if not self._table.groups or (np.diff(self._ids) <= 0).any():
            return ()
        cuts = np.searchsorted(self._ids, np.cumsum([0, *self._table.groups]))
        return tuple(count for count in np.diff(cuts).tolist() if count)

    def __len__(self) -> int:
        return len(self._ids)

    def rows(self, ids: Ids) -> Columns:
        return self._table.rows(self._ids[ids])


def content_fingerprint(columns: Mapping[str, Any]) -> str:
    """sha256 over names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name, array in sorted(pack(columns).items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def chunks(count: int, size: int) -> list[Ids]:
    """Ids 0 .. count - 1 in runs of at most `size`."""
    firsts = itertools.takewhile(lambda first: first < count, itertools.count(0, size))
    return [np.arange(first, min(first + size, count), dtype=np.int64) for first in firsts]
