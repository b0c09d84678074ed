"""Whether a data source is the name of a catalog set or a place, and which place that is on this machine."""

from __future__ import annotations

from pathlib import Path

_SUFFIXES = (".parquet", ".csv", ".jsonl", ".ndjson", ".tar", ".json")


def is_place(source: str) -> bool:
    """Whether a source means a path or a uri, rather than a catalog name. It may be there on another machine only."""
    return "/" in source or source.startswith((".", "~")) or source.endswith(_SUFFIXES) or Path(source).exists()


def absolute(source: str) -> str:
    """A path in full, so that it means the same to every process of a run, whatever its directory; a uri as it is."""
    return source if "://" in source else str(Path(source).expanduser().absolute())
