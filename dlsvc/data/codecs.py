"""Encoded images to pixels and back, wary of what users send: limits are read from the header, before any decoding."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from dlsvc.errors import DataError

Pixels = NDArray[np.uint8]

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MAX_MEGAPIXELS = 25

# What Pillow's decoders raise on damaged files.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, MemoryError)
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)


class Undecodable(DataError):
    """An image that can't be decoded; the message is the reason."""


def decode_image(data: bytes, channels: int, size: int | None = None) -> Pixels:
    """The image as uint8 (H, W, channels), upright, on white where it was transparent, resized to size x size.

    Raises Undecodable with the reason: no image, an unknown format, too large, damaged.
    """
    if not data:
        raise Undecodable("the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image.size)
            return _pixels(flatten(ImageOps.exif_transpose(image), channels), size)
    except Undecodable:
        raise
    except _BOMB as error:
        raise Undecodable(f"more than {MAX_MEGAPIXELS} megapixels") from error
    except UnidentifiedImageError as error:
        raise Undecodable(f"not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image") from error
    except (*_DAMAGED, struct.error, zlib.error) as error:
        raise Undecodable(f"damaged image: {error}") from error


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if width * height > MAX_MEGAPIXELS * 1_000_000:
        megapixels = width * height / 1e6
        raise Undecodable(f"{width} x {height} is {megapixels:.1f} megapixels, more than the {MAX_MEGAPIXELS} allowed")


def flatten(image: Image.Image, channels: int) -> Image.Image:
    """Any mode as L (1 channel) or RGB (3 channels), composited on white."""
    if image.mode.startswith("I"):
        # 16-bit grey: 65535 becomes 255.
        image = Image.fromarray(np.round(np.clip(np.asarray(image), 0, 65535) / 257).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if channels == 1:
        return (
            image.convert("RGB").convert("L") if image.mode in ("CMYK", "YCbCr", "LAB", "HSV") else image.convert("L")
        )
    return image.convert("RGB")


def resize_pixels(pixels: Pixels, channels: int, size: int) -> Pixels:
    """A raw image (H, W) or (H, W, 1 | 3 | 4) as (size, size, channels)."""
    squeezed = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels
    return _pixels(flatten(Image.fromarray(np.ascontiguousarray(squeezed)), channels), size)


def _pixels(image: Image.Image, size: int | None) -> Pixels:
    if size is not None and image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array


def encode_png(pixels: Pixels) -> bytes:
    """uint8 (H, W) or (H, W, 1 | 3) as PNG."""
    squeezed = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(squeezed)).save(out, "PNG")
    return out.getvalue()
