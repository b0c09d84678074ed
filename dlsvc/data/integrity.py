"""Damage that decoders pass over in silence: what a file says of its own length and checksums, held against its bytes.

Pillow doesn't compare a PNG's checksums, and libsndfile reads what is left of a cut WAV as if it were whole. Each
function returns what is wrong, or None.
"""

from __future__ import annotations

import struct
import zlib

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
# Written by programs that stream to a pipe and don't know the length.
_UNKNOWN_SIZES = (0, 0xFFFFFFFF)
_LAST_PAGE = 4
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def png_damage(data: bytes) -> str | None:
    """PNG (third edition), section 5.3: length, type, data, CRC-32 of type and data; IEND is the last chunk."""
    place = len(PNG_MAGIC)
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if end > len(data):
            return "the file is cut off"
        if zlib.crc32(memoryview(data)[place + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            return f"the checksum of chunk {kind.decode('ascii', 'replace')} is wrong"
        if kind == b"IEND":
            return None
        place = end
    return "the file is cut off"


def riff_damage(data: bytes) -> str | None:
    """RIFF (WAV, WebP): every chunk that begins must end within the file."""
    place = 12
    while place + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, place)
        if kind == b"data" and length in _UNKNOWN_SIZES:
            return None
        if place + 8 + length > len(data):
            return "the file is cut off"
        place += 8 + length + length % 2
    declared = struct.unpack_from("<I", data, 4)[0] if len(data) >= 8 else 0
    return "the file is cut off" if declared not in _UNKNOWN_SIZES and len(data) < declared + 8 - 1 else None


def ogg_damage(data: bytes) -> str | None:
    """RFC 3533, section 6: pages with a CRC each, of which the last says that it is the last."""
    place, flags = 0, 0
    while place < len(data):
        size = _page_size(data, place)
        if size is None or place + size > len(data):
            return "the file is cut off, or a page of it is damaged"
        page = data[place : place + size]
        if _page_crc(page) != struct.unpack_from("<I", page, 22)[0]:
            return "the checksum of a page is wrong"
        place, flags = place + size, page[5]
    return None if flags & _LAST_PAGE else "the file is cut off"


def _page_size(data: bytes, place: int) -> int | None:
    if data[place : place + 4] != b"OggS" or place + 27 > len(data):
        return None
    segments = data[place + 26]
    lengths = data[place + 27 : place + 27 + segments]
    return 27 + segments + sum(lengths) if len(lengths) == segments else None


def _page_crc(page: bytes) -> int:
    """Ogg's CRC-32 runs from the highest bit, from 0: zlib's on reversed bits, with both of its inversions undone."""
    reversed_bits = (page[:22] + b"\0\0\0\0" + page[26:]).translate(_REVERSED)
    return int(f"{zlib.crc32(reversed_bits, 0xFFFFFFFF) ^ 0xFFFFFFFF:032b}"[::-1], 2)
