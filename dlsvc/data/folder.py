"""A folder of images or of sounds: labels by folder, texts beside them, or both from a `metadata.csv` or `.jsonl`.

- `ROOT/CLASS/x.png`, or `ROOT/train/CLASS/x.png` and `ROOT/test/CLASS/x.png`: the folder's name is the label;
- `x.png` and `x.txt` beside each other: the text belongs to the picture;
- `metadata.csv` or `metadata.jsonl` in ROOT, or in `ROOT/train` and `ROOT/test`: each row has `file_name` and what it
  has of `label`, `text`, `mask` (a file too) and the other columns that `data.columns` names.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from dlsvc.data.columns import TEXTS, named
from dlsvc.data.index import Index
from dlsvc.data.location import FileFacts, Location, reason
from dlsvc.data.samples import AUDIO_SUFFIXES, IMAGE_SUFFIXES, Sample, fetch, index_of
from dlsvc.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from dlsvc.spec.schema import ColumnsSpec

SUFFIXES = {"image": IMAGE_SUFFIXES, "audio": AUDIO_SUFFIXES}
METADATA = ("metadata.csv", "metadata.jsonl")

Row = Mapping[str, Any]


def suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def relevant(files: Sequence[FileFacts], medium: str) -> list[FileFacts]:
    """Those that make the data: a note that lies among them doesn't change it."""
    pairs = {str(PurePosixPath(file.name).with_suffix(".txt")) for file in files if suffix(file.name) != ".txt"}
    return [
        file
        for file in files
        if suffix(file.name) in SUFFIXES[medium] or file.name.split("/")[-1] in METADATA or file.name in pairs
    ]


@dataclass(frozen=True)
class Folder:
    """A folder that is indexed: `files` are what `relevant` leaves of those below it."""

    root: Location
    files: Sequence[FileFacts]
    medium: str
    columns: ColumnsSpec

    def index(self, fingerprint: str) -> Index:
        """Raises DataError when there is nothing in it, or a row or a text is missing or wrong."""
        splits = [split for split in ("train", "test") if any(file.name.startswith(f"{split}/") for file in self.files)]
        parts = splits if "train" in splits else [""]
        samples = [sample for part in parts for sample in self._part(part)]
        if not any(sample["split"] == "train" for sample in samples):
            kinds = ", ".join(SUFFIXES[self.medium])
            raise DataError(f"{self.root}: no {self.medium} files ({kinds}) in it or its folders")
        return index_of(samples, fingerprint)

    def _part(self, split: str) -> list[Sample]:
        """The samples of one folder of the split's name, or of all."""
        start = f"{split}/" if split else ""
        inside = {file.name.removeprefix(start): file for file in self.files if file.name.startswith(start)}
        base = {"split": split or "train"}
        listing = next((name for name in METADATA if name in inside), None)
        found = self._listed(start, listing, inside) if listing else self._by_class(start, inside)
        return [{**base, **sample} for sample in found]

    def _by_class(self, start: str, inside: Mapping[str, FileFacts]) -> list[Sample]:
        """Samples below folders that are named as their classes; without any such folder they have no labels."""
        names = [name for name in inside if suffix(name) in SUFFIXES[self.medium]]
        texts = self._texts_beside(names, start, inside)
        found = []
        for name in names:
            label = name.split("/")[0] if "/" in name else None
            found.append(
                {"key": name, "where": "", "label": label, **self._file(self.medium, start + name, inside[name])}
            )
        return [{**sample, "text": texts[sample["key"]]} for sample in found] if texts else found

    def _texts_beside(self, names: Sequence[str], start: str, inside: Collection[str]) -> dict[str, str]:
        beside = {name: str(PurePosixPath(name).with_suffix(".txt")) for name in names}
        if not any(text in inside for text in beside.values()):
            return {}
        for name, text in beside.items():
            if text not in inside:
                raise DataError(f"{self.root / start / name}: no {text.split('/')[-1]} beside it, and others have one")
        files = [(start + text, None, 0) for text in beside.values()]
        read = fetch(self.root, "text", files)
        return {name: _text(data, self.root / file[0]) for name, data, file in zip(names, read, files, strict=True)}

    def _file(self, medium: str, name: str, facts: FileFacts | None) -> Sample:
        size = facts.size if facts else -1
        return {f"{medium}.file": name, f"{medium}.offset": None, f"{medium}.size": max(0, size)}

    def _listed(self, start: str, name: str, inside: Mapping[str, FileFacts]) -> list[Sample]:
        listing = self.root / start / name
        found = [self._row(where, row, start, inside) for where, row in read_rows(listing)]
        if found and not any(sample["key"] in inside for sample in found):
            raise DataError(f"{found[0]['where']}: no file {self.root / start / found[0]['key']}, nor any other named")
        return found

    def _row(self, where: str, row: Row, start: str, inside: Mapping[str, FileFacts]) -> Sample:
        """A file that isn't there stays: reading it makes it one bad sample, as damage does."""
        if not row.get("file_name"):
            raise DataError(f"{where}: no file_name{did_you_mean('file_name', [str(name) for name in row])}")
        name, fields = str(row["file_name"]), ("label", "mask", *TEXTS)
        columns = {field: named(self.columns, field, row, where) for field in fields}
        given = {field: row[column] for field, column in columns.items() if column and row[column] not in (None, "")}
        sample = {"key": name, "where": where, **self._file(self.medium, start + name, inside.get(name))}
        if "mask" in given:
            mask = str(given.pop("mask"))
            sample |= self._file("mask", start + mask, inside.get(mask))
        texts = {field: _plain(value) for field, value in given.items() if field != "label"}
        label = given.get("label")
        return {**sample, "label": None if label is None else str(label), **texts}


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _text(data: bytes, place: Location) -> str:
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: not UTF-8 at byte {error.start}") from error


def read_text(place: Location) -> str:
    """A whole file of UTF-8. Raises DataError."""
    try:
        return _text(place.read_bytes(), place)
    except OSError as error:
        raise DataError(f"can't read {place}: {reason(error)}") from error


def read_rows(listing: Location) -> Iterator[tuple[str, Row]]:
    """(`FILE:LINE`, row) for each row of a .csv or .jsonl. Raises DataError at the line that is wrong."""
    text = read_text(listing)
    yield from _csv_rows(listing, text) if listing.suffix == ".csv" else _json_rows(listing, text)


def _csv_rows(listing: Location, text: str) -> Iterator[tuple[str, Row]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        for row in reader:
            where = f"{listing}:{reader.line_num}"
            if None in row or None in row.values():
                raise DataError(f"{where}: not {len(reader.fieldnames or ())} values, as the first line has")
            yield where, row
    except csv.Error as error:
        raise DataError(f"{listing}:{reader.line_num + 1}: can't read it: {error}") from error


def _json_rows(listing: Location, text: str) -> Iterator[tuple[str, Row]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{listing}:{number}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise DataError(f"{listing}:{number}: not an object with file_name")
        yield f"{listing}:{number}", row
