"""R's lazy-load databases, as far as character vectors need: an index of names and places, and packed records.

The format is that of R Internals, section 1.8 (serialization, XDR): a word of flags for each object, the type in its
low byte, then attributes' and length's words as the type has them.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from typing import Any

_NIL, _SYMBOL, _PAIRS, _CHARS, _LOGICAL, _INTEGERS, _REALS, _STRINGS, _LIST = 254, 1, 2, 9, 10, 13, 14, 16, 19
_REFERENCE = 255
_HAS_ATTRIBUTES, _HAS_TAG = 0x200, 0x400
# Two bytes "X\n", then versions of the format, of the writer and of the oldest reader.
_HEADER = 14


def lazy_load(index: bytes, database: bytes) -> dict[str, list[str]]:
    """The character vectors of an `.rdx` and `.rdb` pair by name. Raises ValueError for other kinds of objects."""
    variables = _read(gzip.decompress(index))["variables"]
    # A record begins with its unpacked size, four bytes.
    return {name: _read(zlib.decompress(database[at + 4 : at + size])) for name, (at, size) in variables.items()}


def _read(data: bytes) -> Any:
    return _Reader(data).item()


class _Reader:
    def __init__(self, data: bytes) -> None:
        version = struct.unpack_from(">i", data, 2)[0]
        if data[:2] != b"X\n" or version not in (2, 3):
            raise ValueError("not an R object in XDR format")
        self._data = data
        self._at = _HEADER
        self._symbols: list[str] = []
        if version == 3:  # the name of the native encoding
            self._at += 4 + self._peek()

    def _peek(self) -> int:
        return int(struct.unpack_from(">i", self._data, self._at)[0])

    def _word(self) -> int:
        value = self._peek()
        self._at += 4
        return value

    def _array(self, kind: str, width: int) -> list[Any]:
        count = self._word()
        values = struct.unpack_from(f">{count}{kind}", self._data, self._at)
        self._at += count * width
        return list(values)

    def item(self) -> Any:
        """The next object: None, str, a list, or a dict where a list or pairs have names."""
        flags = self._word()
        kind = flags & 0xFF
        if kind == _PAIRS:
            return self._pairs(flags)
        value = self._plain(kind, flags)
        attributes = self.item() if flags & _HAS_ATTRIBUTES and kind != _CHARS else None
        names = (attributes or {}).get("names")
        return dict(zip(names, value, strict=True)) if names else value

    def _plain(self, kind: int, flags: int) -> Any:
        if kind == _NIL:
            return None
        if kind == _CHARS:
            return self._chars()
        if kind == _SYMBOL:
            self._symbols.append(self.item())
            return self._symbols[-1]
        if kind == _REFERENCE:
            return self._symbols[(flags >> 8) - 1]
        if kind in (_STRINGS, _LIST):
            return [self.item() for _ in range(self._word())]
        if kind in (_INTEGERS, _LOGICAL):
            return self._array("i", 4)
        if kind == _REALS:
            return self._array("d", 8)
        raise ValueError(f"an R object of type {kind}, which no data set here has")

    def _chars(self) -> str:
        length = max(0, self._word())
        self._at += length
        return self._data[self._at - length : self._at].decode()

    def _pairs(self, flags: int) -> dict[str, Any]:
        """A linked list of tagged values, the end of which is nil."""
        if flags & _HAS_ATTRIBUTES:
            self.item()
        tag = self.item() if flags & _HAS_TAG else ""
        return {tag: self.item()} | (self.item() or {})
