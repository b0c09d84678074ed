"""SWORD's zText modules: a verse's text is a slice of a compressed block, and headings mark the chapters.

Per testament three files: `.bzv`, ten bytes an entry (block, offset in it, length); `.bzs`, twelve bytes a block
(offset in the file, packed and unpacked size); `.bzz`, the blocks, each of zlib.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator

from dlsvc.data.convert.rows import Read

_CHAPTER = re.compile(r'<chapter\b[^>]*\bosisID="([^"]+)"[^>]*\bsID=')
_NOTES = re.compile(r"<(note|title)\b.*?</\1>", re.DOTALL)
_TAG = re.compile(r"<[^>]+>")


def verses(read: Read, package: str) -> Iterator[tuple[tuple[str, int], str]]:
    """((chapter such as `Gen.1`, verse from 1), plain text), a testament after the other.

    The entries of a chapter follow its heading one by one, empty where the translation has no such verse, so that the
    tables of verses that SWORD's versifications are made of aren't needed.
    """
    files = dict(read(package, lambda name: "/ztext/" in name))
    for testament in ("ot", "nt"):
        parts = [next(data for name, data in files.items() if name.endswith(f"{testament}.{part}")) for part in _PARTS]
        chapter, verse = "", 0
        for entry in _entries(*parts):
            if heading := _CHAPTER.search(entry):
                chapter, verse = heading[1], 0
            elif chapter:
                verse += 1
                yield (chapter, verse), _plain(entry)


_PARTS = ("bzv", "bzs", "bzz")


def _entries(places: bytes, sizes: bytes, packed: bytes) -> Iterator[str]:
    spans = list(struct.iter_unpack("<III", sizes))
    blocks = [zlib.decompress(packed[first : first + length]) for first, length, _ in spans]
    for block, first, length in struct.iter_unpack("<IIH", places):
        yield blocks[block][first : first + length].decode() if length else ""


def _plain(markup: str) -> str:
    return " ".join(_TAG.sub("", _NOTES.sub(" ", markup)).split())
