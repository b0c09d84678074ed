"""Ways in which files of images and sounds break, each as a function from good bytes to bad ones."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

Damage = Callable[[bytes], bytes]


def png(seed: int = 0, size: int = 32) -> bytes:
    return _encoded(seed, size, "PNG")


def jpeg(seed: int = 0, size: int = 32) -> bytes:
    return _encoded(seed, size, "JPEG")


def _encoded(seed: int, size: int, kind: str) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def _flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]


def _header(width: int, height: int) -> Damage:
    """A PNG that says it is of another size, checksum and all."""

    def damage(data: bytes) -> bytes:
        chunk = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
        return data[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]

    return damage


PNG_DAMAGE: dict[str, Damage] = {
    "empty": lambda data: b"",
    "cut within the header": lambda data: data[:20],
    "cut in the middle": lambda data: data[: len(data) // 2],
    "without its end": lambda data: data[:-12],
    "a bit flipped in the pixels": lambda data: _flipped(data, len(data) // 2),
    "a bit flipped in the header": lambda data: _flipped(data, 17),
    "a page of HTML": lambda data: b"<!doctype html><title>404</title>",
    "zeros": lambda data: bytes(len(data)),
    "a bomb": _header(60_000, 60_000),
    "no pixels": _header(0, 32),
    "another format's beginning": lambda data: b"GIF89a" + data[6:],
}
JPEG_DAMAGE: dict[str, Damage] = {
    "jpeg: cut in the middle": lambda data: data[: len(data) // 2],
    "jpeg: without its end": lambda data: data[:-2],
    "jpeg: zeros in the scan": lambda data: data[: len(data) // 2] + bytes(200) + data[len(data) // 2 + 200 :],
    "jpeg: only its beginning": lambda data: data[:4],
}
