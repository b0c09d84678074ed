"""Samples that are files, whole ones or members of tar archives: an index of where they lie becomes tables.

The index has a row a sample: `split`, `key` (its name within the data, which decides whether it is held out), `where`
(what named it, for messages), `label`, strings under their own names, and for each medium `M.file` (from the root),
`M.offset` (null: the whole file), `M.size` (of all its files) and, of a sample that has several, `M.more` (the others).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dlsvc.data.catalog import held_out
from dlsvc.data.codecs import together, unreadable
from dlsvc.data.columns import TEXTS, find_classes, label_names
from dlsvc.data.index import Index
from dlsvc.data.location import Location, reason
from dlsvc.data.splits import Source
from dlsvc.data.table import BYTES_COLUMNS, Columns, Ids, Table
from dlsvc.errors import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg")

# Files that are fetched at once from another machine; a disk here is fastest one by one.
_AT_ONCE = 16

Sample = dict[str, Any]


class SampleTable(Table):
    """Samples read from their files when they are asked for. One that can't be read is `unreadable`, with why."""

    def __init__(self, root: Location, rows: pa.Table, classes: Sequence[str], fingerprint: str) -> None:
        self._root, self._rows = root, rows
        self._media = tuple(name for name in BYTES_COLUMNS if f"{name}.file" in rows.column_names)
        self._texts = tuple(name for name in TEXTS if name in rows.column_names)
        self._labels = _labels(root, rows, classes) if classes else None
        self.columns = (*self._media, "uri", *(("label",) if classes else ()), *self._texts)
        self.nbytes = sum(pc.sum(rows[f"{name}.size"]).as_py() or 0 for name in self._media)
        self._fingerprint = hashlib.sha256(f"{fingerprint}\n{_listing(rows)}".encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def groups(self) -> tuple[int, ...]:
        """Shards, of which one is read faster in its order than many at random."""
        medium = next(iter(self._media), None)
        if medium is None or self._rows[f"{medium}.offset"].null_count == len(self._rows):
            return ()
        shards = self._rows[f"{medium}.file"].combine_chunks().dictionary_encode().indices.fill_null(0).to_numpy()
        ends = [*(np.flatnonzero(np.diff(shards)) + 1).tolist(), len(shards)]
        return tuple(np.diff([0, *ends]).tolist())

    def rows(self, ids: Ids) -> Columns:
        chosen = self._rows.take(pa.array(ids))
        found: Columns = {name: self._read(name, chosen) for name in self._media}
        found["uri"] = [uri(self._root, row) for row in chosen.to_pylist()]
        if self._labels is not None:
            found["label"] = self._labels[ids]
        return found | {name: [value or "" for value in chosen[name].to_pylist()] for name in self._texts}

    def labels(self) -> Ids | None:
        return self._labels

    def _read(self, medium: str, chosen: pa.Table) -> list[bytes]:
        names = ("file", "offset", "size")
        places = zip(*(chosen[f"{medium}.{name}"].to_pylist() for name in names), strict=True)
        first = fetch(self._root, medium, list(places))
        if f"{medium}.more" not in chosen.column_names:
            return first
        others = [more or [] for more in chosen[f"{medium}.more"].to_pylist()]
        rest = iter(fetch(self._root, medium, [(file, None, 0) for more in others for file in more]))
        return [together([file, *(next(rest) for _ in more)]) for file, more in zip(first, others, strict=True)]


def fetch(root: Location, medium: str, places: Sequence[tuple[str | None, int | None, int]]) -> list[bytes]:
    """The bytes at each (file, offset, size), or what stands in for them."""

    def read(place: tuple[str | None, int | None, int]) -> bytes:
        file, offset, size = place
        if file is None:
            return unreadable(f"the sample has no {medium}")
        try:
            return (root / file).read_bytes() if offset is None else (root / file).read_range(offset, size)
        except OSError as error:
            return unreadable(f"the {medium} can't be read: {reason(error)}")

    if root.is_local:
        return [read(place) for place in places]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(read, places))


def uri(root: Location, row: Mapping[str, Any]) -> str:
    """What messages call a sample: its file, or what named it where it is no file of its own."""
    medium = next((name for name in BYTES_COLUMNS if row.get(f"{name}.file")), None)
    is_file = medium is not None and row[f"{medium}.offset"] is None
    return str(root / row[f"{medium}.file"]) if is_file else str(row["where"])


def _labels(root: Location, rows: pa.Table, classes: Sequence[str]) -> Ids:
    index = {name: number for number, name in enumerate(classes)}
    found = np.asarray([index.get(name or "", -1) for name in label_names(rows["label"])], np.int64)
    if len(found) and found.min() < 0:
        row = rows.slice(int(np.argmin(found)), 1).to_pylist()[0]
        place = row["where"] or uri(root, row)
        if row["label"] is None:
            raise DataError(f"{place}: the label is missing, and other samples have one")
        raise DataError(f"{place}: no training sample has the label {row['label']!r}")
    return found


def _listing(rows: pa.Table) -> str:
    names = [name for name in ("key", "label", *TEXTS) if name in rows.column_names]
    digest = hashlib.sha256()
    for values in zip(*(rows[name].to_pylist() for name in names), strict=True):
        digest.update(("\t".join(map(str, values)) + "\n").encode())
    return digest.hexdigest()


def index_of(samples: Iterable[Sample], fingerprint: str) -> Index:
    """The index of samples with `split`, `key`, `where` and what they have of the rest. A sample without a column that
    another has holds null there.
    """
    rows = list(samples)
    names = dict.fromkeys(name for row in rows for name in row if row[name] is not None)
    # Labels of both kinds, 3 and "three", are all names.
    if any(isinstance(row.get("label"), str) for row in rows):
        rows = [{**row, "label": None if row.get("label") is None else str(row["label"])} for row in rows]
    media = {name.split(".")[0] for name in names if name.endswith(".file")}
    types = {f"{name}.offset": pa.int64() for name in media}
    plain = ("split", "key", "where", *(name for name in names if name not in ("split", "key", "where")), *types)
    columns = {name: pa.array([row.get(name) for row in rows], types.get(name)) for name in dict.fromkeys(plain)}
    return Index(pa.table(columns), {"fingerprint": fingerprint})


def open_samples(index: Index, root: Location, name: str) -> Source:
    """The source of an index; without a test split, by the crc32 of each key one sample in ten is held out."""
    rows, fingerprint = index.rows, str(index.facts["fingerprint"])
    parts = {split: rows.filter(pc.equal(rows["split"], split)) for split in pc.unique(rows["split"]).to_pylist()}
    classes = _classes(parts["train"], root) if "label" in rows.column_names else ()
    if "test" not in parts:
        parts |= _held_out(parts["train"])

    def opener(part: pa.Table) -> Callable[[], Table]:
        return lambda: SampleTable(root, part, classes, fingerprint)

    return Source(name=name, classes=classes, splits={split: opener(part) for split, part in parts.items()})


def _held_out(rows: pa.Table) -> dict[str, pa.Table]:
    test = np.asarray([held_out(key) for key in rows["key"].to_pylist()], bool)
    return {"train": rows.filter(pa.array(~test)), "test": rows.filter(pa.array(test))}


def _classes(train: pa.Table, root: Location) -> tuple[str, ...]:
    labels = train["label"]
    if labels.null_count == len(labels):
        return ()
    return find_classes([labels], root, "label")
