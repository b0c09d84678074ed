"""The data sets known by name: static facts, one file a chapter, readable without torch, Ray or a pull."""

from __future__ import annotations

import zlib

from dlsvc.data.catalog import basics, language, multimodal, signals, vision, weights
from dlsvc.data.catalog.facts import AS_OFFERED, CatalogEntry, Modality, Package
from dlsvc.errors import NotFound, did_you_mean

__all__ = ["AS_OFFERED", "CatalogEntry", "Modality", "Package", "entries", "entry", "held_out"]
__all__ += ["lists", "trained_weights"]


def entries() -> dict[str, CatalogEntry]:
    """Every data set by its name, chapter by chapter, the simplest first."""
    chapters = (basics.ENTRIES, vision.ENTRIES, language.ENTRIES, multimodal.ENTRIES, signals.ENTRIES)
    return {entry.name: entry for chapter in chapters for entry in chapter}


def trained_weights() -> dict[str, CatalogEntry]:
    """Trained models whose files a package ships, by name; `kind` is "weights"."""
    return {entry.name: entry for entry in weights.ENTRIES}


def lists() -> dict[str, CatalogEntry]:
    """What vectors of words are measured by; `kind` is "lists"."""
    return {entry.name: entry for entry in weights.LISTS}


def entry(name: str) -> CatalogEntry:
    """The data set or the weights of this name. Raises NotFound with a near name."""
    known = entries() | trained_weights() | lists()
    if name not in known:
        raise NotFound(f"no data set is called {name!r}{did_you_mean(name, known)}")
    return known[name]


def held_out(key: str, one_in: int = 10) -> bool:
    """Whether the crc32 rule puts a sample in the test split: one in ten, or in `one_in`, the same on every machine."""
    return zlib.crc32(key.encode()) % one_in == 0
