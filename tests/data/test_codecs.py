from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from dlsvc.data.codecs import Undecodable, decode_image, encode_png, resize_pixels

Encode = Callable[..., bytes]

repeatable = settings(deadline=None, derandomize=True, database=None, max_examples=30)


def png_header(width: int, height: int) -> bytes:
    """A PNG that says how large it is and holds nothing: what a decompression bomb looks like before it goes off."""
    facts = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"")
    chunks = [struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) for body in (facts, data)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_formats(kind: str, encoded: Encode) -> None:
    pixels = decode_image(encoded(kind=kind), 3)
    assert pixels.shape == (10, 20, 3)
    np.testing.assert_allclose(pixels[5, 5], (200, 30, 30), atol=4)


def test_format_that_is_not_allowed(encoded: Encode) -> None:
    with pytest.raises(Undecodable, match="not a PNG, JPEG, WEBP, GIF or BMP"):
        decode_image(encoded(kind="TIFF"), 3)


@pytest.mark.parametrize("size", [(6000, 5000), (12_000, 10_000), (60_000, 60_000)])
def test_too_many_pixels_are_refused_from_the_header(size: tuple[int, int]) -> None:
    with pytest.raises(Undecodable, match="megapixels"):
        decode_image(png_header(*size), 3)


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", png_header(4, 4)])
def test_damage_is_undecodable(data: bytes) -> None:
    with pytest.raises(Undecodable):
        decode_image(data, 3)


def test_cut_off_file_is_undecodable(encoded: Encode) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    for kind in ("PNG", "JPEG"):
        data = encoded(noise, kind=kind)
        with pytest.raises(Undecodable, match="damaged"):
            decode_image(data[: len(data) // 2], 3)


def test_exif_orientation_is_applied(encoded: Encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((10, 20, 3), np.uint8)
    pixels[:, :10] = 255
    upright = decode_image(encoded(pixels, kind="PNG", exif=exif), 3)
    assert upright.shape == (20, 10, 3)
    assert upright[0, 0, 0] == 255
    assert upright[-1, 0, 0] == 0


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGBA", (0, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (255, 0, 0, 255), (255, 0, 0)),
        ("LA", (0, 0), (255, 255, 255)),
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("I;16", 65535, (255, 255, 255)),
        ("I;16", 257 * 100, (100, 100, 100)),
        ("P", 0, (0, 0, 0)),
    ],
)
def test_modes(mode: str, colour: object, expected: tuple[int, int, int], encoded: Encode) -> None:
    data = encoded(colour, mode=mode)
    assert decode_image(data, 3)[0, 0].tolist() == list(expected)
    assert decode_image(data, 1).shape == (10, 20, 1)


def test_transparent_palette_is_white(encoded: Encode) -> None:
    assert decode_image(encoded(0, mode="P", transparency=0), 3)[0, 0].tolist() == [255, 255, 255]


def test_cmyk_jpeg(encoded: Encode) -> None:
    data = encoded((0, 255, 255, 0), mode="CMYK", kind="JPEG")
    np.testing.assert_allclose(decode_image(data, 3)[0, 0], (254, 0, 0), atol=6)
    assert decode_image(data, 1)[0, 0, 0] == pytest.approx(76, abs=6)


def test_animation_shows_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(out.getvalue(), 3)[0, 0].tolist() == [255, 0, 0]


@repeatable
@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_undecodable(data: bytes) -> None:
    for start in (b"", b"\xff\xd8\xff\xe0", b"GIF89a", b"BM", b"RIFF\x00\x00\x00\x00WEBPVP8 "):
        with pytest.raises(Undecodable):
            decode_image(start + data, 3)


@repeatable
@given(arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 3]))))
def test_png_keeps_every_pixel(pixels: np.ndarray) -> None:
    assert (decode_image(encode_png(pixels), pixels.shape[-1]) == pixels).all()


@repeatable
@given(
    arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 3, 4]))),
    st.sampled_from([1, 3]),
    st.integers(1, 16),
)
def test_resized_pixels_have_the_asked_shape(pixels: np.ndarray, channels: int, size: int) -> None:
    resized = resize_pixels(pixels, channels, size)
    assert resized.shape == (size, size, channels)
    assert resized.dtype == np.uint8


def test_raw_and_encoded_images_resize_alike() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (28, 28), np.uint8)
    assert (resize_pixels(pixels, 1, 13) == decode_image(encode_png(pixels), 1, 13)).all()
