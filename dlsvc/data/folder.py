"""A folder of images: classes by folder, or a `metadata.csv` or `metadata.jsonl` that names files, labels and texts."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlsvc.data.catalog import held_out
from dlsvc.data.source import Source
from dlsvc.data.table import Columns, Ids, Table
from dlsvc.errors import DataError, did_you_mean

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")

# Images up to this many bytes together are fingerprinted by their content, more by size and time of change.
_CONTENT_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Picture:
    """An image file; `key` is its name within the data set, `where` the line that named it."""

    path: Path
    key: str
    label: str | None = None
    text: str | None = None
    where: str = ""


class FolderTable(Table):
    """Images read from their files when they are asked for."""

    def __init__(self, pictures: Sequence[Picture], classes: Sequence[str]) -> None:
        self._pictures = pictures
        self._labels = _labels(pictures, classes) if classes else None
        has_text = any(picture.text is not None for picture in pictures)
        named = {"image": True, "uri": True, "label": bool(classes), "text": has_text}
        self.columns = tuple(name for name, is_there in named.items() if is_there)
        self.nbytes = sum(picture.path.stat().st_size for picture in pictures)
        self._fingerprint = _fingerprint(pictures, self.nbytes)

    def __len__(self) -> int:
        return len(self._pictures)

    def rows(self, ids: Ids) -> Columns:
        chosen = [self._pictures[row] for row in ids.tolist()]
        found: Columns = {
            "image": [_read(picture.path) for picture in chosen],
            "uri": [str(picture.path) for picture in chosen],
            "text": [picture.text or "" for picture in chosen],
        }
        if self._labels is not None:
            found["label"] = self._labels[ids]
        return {name: found[name] for name in self.columns}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror}") from error


def _labels(pictures: Sequence[Picture], classes: Sequence[str]) -> Ids:
    index = {name: number for number, name in enumerate(classes)}
    for picture in pictures:
        if picture.label not in index:
            place = picture.where or str(picture.path)
            if picture.label is None:
                raise DataError(f"{place}: the label is missing, and other images have one")
            raise DataError(f"{place}: no training image has the label {picture.label!r}")
    return np.asarray([index[str(picture.label)] for picture in pictures], np.int64)


def _fingerprint(pictures: Sequence[Picture], nbytes: int) -> str:
    digest = hashlib.sha256()
    for picture in pictures:
        facts = picture.path.stat()
        digest.update(f"{picture.key}\t{picture.label}\t{picture.text}\t{facts.st_size}\n".encode())
        digest.update(picture.path.read_bytes() if nbytes < _CONTENT_BYTES else str(facts.st_mtime_ns).encode())
    return digest.hexdigest()


def open_folder(root: Path) -> Source:
    """The image folder at `root`. Raises DataError when there are no images, or a label or a named file is missing."""
    if not root.is_dir():
        raise DataError(f"{root} is no folder, which data.format image-folder needs")
    splits = _splits(root)
    if not splits["train"]:
        raise DataError(f"{root}: no images ({', '.join(SUFFIXES)}) in it or its folders")
    classes = tuple(sorted({picture.label for picture in splits["train"] if picture.label is not None}))

    def opener(pictures: Sequence[Picture]) -> Callable[[], Table]:
        return lambda: FolderTable(pictures, classes)

    return Source(name=root.name, classes=classes, splits={split: opener(found) for split, found in splits.items()})


def _splits(root: Path) -> dict[str, list[Picture]]:
    if (root / "train").is_dir():
        found = {split: _pictures(root / split) for split in ("train", "test") if (root / split).is_dir()}
        if "test" in found:
            return found
        return _hold_out(found["train"])
    return _hold_out(_pictures(root))


def _hold_out(pictures: Sequence[Picture]) -> dict[str, list[Picture]]:
    return {
        "train": [picture for picture in pictures if not held_out(picture.key)],
        "test": [picture for picture in pictures if held_out(picture.key)],
    }


def _pictures(root: Path) -> list[Picture]:
    if (root / "metadata.csv").is_file():
        return _listed(root, root / "metadata.csv", _csv_rows)
    if (root / "metadata.jsonl").is_file():
        return _listed(root, root / "metadata.jsonl", _json_rows)
    return _by_class(root)


def _by_class(root: Path) -> list[Picture]:
    """Images below folders that are named as their classes; without any such folder they have no labels."""
    paths = sorted(path for path in root.rglob("*") if _is_image(path, root))
    names = [path.relative_to(root).as_posix() for path in paths]
    labels = [name.split("/")[0] if "/" in name else None for name in names]
    return [Picture(path, name, label) for path, name, label in zip(paths, names, labels, strict=True)]


def _is_image(path: Path, root: Path) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.relative_to(root).parts)
    return not hidden and path.suffix.lower() in SUFFIXES and path.is_file()


def _listed(
    root: Path, listing: Path, read: Callable[[Path], Iterator[tuple[int, Mapping[str, Any]]]]
) -> list[Picture]:
    found = []
    for line, row in read(listing):
        where = f"{listing}:{line}"
        if not row.get("file_name"):
            raise DataError(f"{where}: no file_name{did_you_mean('file_name', [str(name) for name in row])}")
        name = str(row["file_name"])
        path = root / name
        if not path.is_file():
            raise DataError(f"{where}: no file {path}")
        label, text = row.get("label"), row.get("text")
        found.append(Picture(path, name, None if label in (None, "") else str(label), text, where))
    return found


def _csv_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        try:
            for row in reader:
                yield reader.line_num, row
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{path}:{reader.line_num + 1}: can't read it: {error}") from error


def _json_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(_read(path).decode(errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: not an object with file_name")
        yield number, row
