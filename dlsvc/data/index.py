"""The index of the user's own data: what its files hold and where, found once and kept, so that opening is instant.

It lies in `DLSVC_HOME/data/index` and not beside the data, which others may use too, and which may be read-only. One
Parquet file for each place, format and choice of columns; it is good for as long as every file's name, size and time of
change are as they were, and made anew when not.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dlsvc.data.location import FileFacts, Location, reason
from dlsvc.data.progress import Say
from dlsvc.errors import DataError

# Changes when an index of an older version can't be read as one of this.
_VERSION = 1
_KEY = b"dlsvc"
# Files changed so shortly before they were indexed could change again without a new time of change.
_SETTLED_NS = 2_000_000_000
# Data of up to so many bytes and files is fingerprinted by its content, more of it by sizes and times of change.
CONTENT_BYTES, _REMOTE_FILES = 64 * 2**20, 64


@dataclass(frozen=True)
class Index:
    """`rows`, one for each sample or run of rows, and `facts`, anything that JSON holds."""

    rows: pa.Table
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Indexed:
    """What is indexed: the files of a place as they are now, read in one format with some settings."""

    root: Location
    kind: str
    files: Sequence[FileFacts]
    asked: str = ""
    settings: str = ""

    @property
    def state(self) -> str:
        """Differs when a file was added, taken away or changed."""
        return _digest(*(f"{file.name}\t{file.size}\t{file.mtime_ns}" for file in self.files))

    def path(self, home: Path) -> Path:
        return home / "data" / "index" / f"{_digest(str(self.root), self.asked, self.kind, self.settings)[:32]}.parquet"

    def fingerprint(self) -> str:
        """sha256 over names, sizes and content; of much data the time of change stands for the content."""
        is_near = self.root.is_local or len(self.files) <= _REMOTE_FILES
        small = is_near and sum(file.size for file in self.files) < CONTENT_BYTES
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(f"{file.name}\t{file.size}\n".encode())
            digest.update(_content(self.root, file) if small else str(file.mtime_ns).encode())
        return digest.hexdigest()


def _content(root: Location, file: FileFacts) -> bytes:
    try:
        return (root / file.name).read_bytes()
    except OSError as error:
        # The same on every opening, until it can be read.
        return f"unreadable: {type(error).__name__}".encode()


def indexed(what: Indexed, home: Path, build: Callable[[], Index], say: Say) -> Index:
    """The index, read where it is good and made where not; says so when the data changed since it was made."""
    path, state = what.path(home), what.state
    kept = _read(path)
    if kept is not None and kept.facts["state"] == state and kept.facts["settled"]:
        return kept
    if kept is not None and kept.facts["state"] != state:
        say(f"{what.asked or what.root} changed since it was indexed; indexing it again")
    newest = max((file.mtime_ns for file in what.files), default=0)
    settled = time.time_ns() - newest > _SETTLED_NS
    found = build()
    facts = {
        **found.facts,
        "state": state,
        "settled": settled,
        "source": what.asked or str(what.root),
        "format": what.kind,
    }
    _write(Index(found.rows, facts), path)
    return Index(found.rows, facts)


def _read(path: Path) -> Index | None:
    try:
        rows = pq.read_table(path, memory_map=True)
        facts = json.loads(rows.schema.metadata[_KEY])
        return Index(rows, facts) if facts["version"] == _VERSION else None
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        # Not there, half-written or of another version: it is made again.
        return None


def _write(index: Index, path: Path) -> None:
    """Whole or not at all: workers of one run may index the same data at once."""
    facts = json.dumps({**index.facts, "version": _VERSION}).encode()
    part = path.with_suffix(f".{os.getpid()}.{time.time_ns()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(index.rows.replace_schema_metadata({_KEY: facts}), part, compression="zstd")
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise DataError(f"can't write the index {path}: {reason(error)}") from error


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
