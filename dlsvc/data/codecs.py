"""Encoded images and sounds to arrays and back, wary of what users send: limits are read from the header, before any
decoding, and a file that can be read in part only is as bad as one that can't be read.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from dlsvc.data.integrity import PNG_MAGIC, ogg_damage, png_damage, riff_damage
from dlsvc.errors import DataError

Pixels = NDArray[np.uint8]
Samples = NDArray[np.float32]

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MASK_FORMATS = ("PNG", "GIF", "BMP")
MAX_MEGAPIXELS = 25
AUDIO_FORMATS = ("WAV", "FLAC", "OGG")
# An hour of stereo at 16 kHz: 0.5 GB as float32.
MAX_AUDIO_SAMPLES = 120_000_000
# Silence after a sound's end: the negative zero, which all that scales and adds takes for any other.
_ENDED = np.float32(-0.0)

# By what the file begins with: of a broken header Pillow only says that it knows no such image.
_DAMAGE = {PNG_MAGIC: png_damage, b"RIFF": riff_damage}
_AUDIO_DAMAGE = {"WAV": riff_damage, "WAVEX": riff_damage, "OGG": ogg_damage}
# Begins what stands in for a file that couldn't be read; the reason follows.
_UNREADABLE = b"\0dlsvc unreadable\0"
# Begins several files in one value; before each stands its length.
_SEVERAL = b"\0dlsvc several\0"
_LENGTH = struct.Struct("<q")

# What Pillow's decoders raise on damaged files.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, MemoryError)
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)


class Undecodable(DataError):
    """An image or a sound that can't be decoded; the message is the reason."""


def unreadable(reason: str) -> bytes:
    """What a table gives in place of a file that it couldn't read: decoding it raises Undecodable with the reason, so
    that one missing file is one bad sample and not the end of the run.
    """
    return _UNREADABLE + reason.encode()


def together(files: Sequence[bytes]) -> bytes:
    """The images of a sample that has several as one value of a column; one by itself stays as it is."""
    if len(files) == 1:
        return files[0]
    return _SEVERAL + b"".join(_LENGTH.pack(len(file)) + file for file in files)


def apart(data: bytes) -> list[bytes]:
    """What `together` put together; nothing of what couldn't be read."""
    if data.startswith(_UNREADABLE):
        return []
    if not data.startswith(_SEVERAL):
        return [data]
    found, place = list[bytes](), len(_SEVERAL)
    while place < len(data):
        first = place + _LENGTH.size
        place = first + _LENGTH.unpack_from(data, place)[0]
        found.append(data[first:place])
    return found


def _check_readable(data: bytes) -> None:
    if data.startswith(_SEVERAL):
        raise Undecodable(f"the sample has {len(apart(data))} images, and one is read")
    if data.startswith(_UNREADABLE):
        raise Undecodable(data[len(_UNREADABLE) :].decode(errors="replace"))
    if not data:
        raise Undecodable("the file is empty")


def decode_image(data: bytes, channels: int, size: int | None = None) -> Pixels:
    """The image as uint8 (H, W, channels), upright, on white where it was transparent, resized to size x size.

    Of an animation it is the first frame. Raises Undecodable with the reason: no image, an unknown format, too large,
    damaged or cut off anywhere, also where a decoder would go on and fill the rest with grey.
    """
    _check_readable(data)
    with opened(data, "image", FORMATS) as image:
        whole = _jpeg(data, image) if image.format in ("JPEG", "MPO") else image
        return _pixels(flatten(ImageOps.exif_transpose(whole), channels), size)


@contextmanager
def opened(data: bytes, what: str, formats: tuple[str, ...]) -> Iterator[Image.Image]:
    """An image of one of the formats, for as long as it is decoded: whatever is wrong with it meanwhile is raised as
    Undecodable with the reason, in which it is called `what`.
    """
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            _check_size(image.size)
            _check_whole(data)
            yield image
    except Undecodable:
        raise
    except _BOMB as error:
        raise Undecodable(f"more than {MAX_MEGAPIXELS} megapixels") from error
    except UnidentifiedImageError as error:
        _check_whole(data)
        raise Undecodable(f"not a {', '.join(formats[:-1])} or {formats[-1]} image") from error
    except (*_DAMAGED, struct.error, zlib.error) as error:
        raise Undecodable(f"damaged {what}: {error}") from error


def _check_whole(data: bytes) -> None:
    for magic, find in _DAMAGE.items():
        damage = find(data) if data.startswith(magic) else None
        if damage:
            raise Undecodable(f"damaged image: {damage}")


def _jpeg(data: bytes, image: Image.Image) -> Image.Image:
    """Pillow's own pixels, both being of libjpeg-turbo; but its warnings, such as of a wrong Huffman code, count."""
    if image.mode not in ("L", "RGB"):
        return image
    # Here: the server, which imports this module, starts without it.
    import simplejpeg

    pixels = simplejpeg.decode_jpeg(data, "GRAY" if image.mode == "L" else "RGB", strict=True)
    found = Image.fromarray(pixels[..., 0] if image.mode == "L" else pixels)
    # Where the camera says which side is up.
    found.info.update({name: value for name, value in image.info.items() if name == "exif"})
    return found


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if not width * height:
        raise Undecodable(f"{width} x {height} is an image without pixels")
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


def decode_mask(data: bytes | Pixels, size: int) -> Pixels:
    """A mask as uint8 class numbers (size, size), from an encoded file whose pixels (or palette places) they are, or
    from an array (H, W). Resized by the nearest pixel: between two classes there is no third. Raises Undecodable.
    """
    if isinstance(data, np.ndarray):
        return _sized_mask(Image.fromarray(np.ascontiguousarray(data)), size)
    _check_readable(data)
    with opened(data, "mask", MASK_FORMATS) as image:
        if image.mode not in ("1", "L", "P"):
            raise Undecodable(f"a mask must have one number of 8 bits a pixel, not {image.mode}")
        return _sized_mask(image, size)


def _sized_mask(image: Image.Image, size: int) -> Pixels:
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.NEAREST)
    return np.asarray(image).astype(np.uint8)


def resize_pixels(pixels: Pixels, channels: int, size: int | None) -> Pixels:
    """A raw image (H, W) or (H, W, 1 | 3 | 4) as (size, size, channels), or without a size as (H, W, channels)."""
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


def decode_audio(data: bytes, sample_rate: int, num_samples: int, *, from_start: bool = False) -> Samples:
    """The sound as float32 (num_samples,) in [-1, 1]: its channels' mean, resampled to `sample_rate` Hz with a
    polyphase filter, and fitted as `fit_length` does.

    Raises Undecodable with the reason: no sound, an unknown format, too long, damaged or cut off anywhere.
    """
    _check_readable(data)
    # Here: soundfile loads a C library, which training on images does without.
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            _check_sound(data, file.format, file.frames, file.channels)
            wave = file.read(dtype="float32", always_2d=True)
            if len(wave) != file.frames:
                raise Undecodable(f"damaged sound: {len(wave)} of {file.frames} samples can be read")
            return _fitted(wave.mean(axis=1), file.samplerate, sample_rate, num_samples, from_start)
    except (soundfile.LibsndfileError, *_DAMAGED) as error:
        kinds = ", ".join(AUDIO_FORMATS)
        # The library's own text names an address in memory, and a reason must be the same wherever it is found.
        reason = getattr(error, "error_string", error)
        raise Undecodable(f"damaged, or not a {kinds} sound: {reason}") from error


def _check_sound(data: bytes, kind: str, frames: int, channels: int) -> None:
    if kind not in (*AUDIO_FORMATS, "WAVEX"):
        raise Undecodable(f"a {kind} sound, not {', '.join(AUDIO_FORMATS[:-1])} or {AUDIO_FORMATS[-1]}")
    damage = _AUDIO_DAMAGE[kind](data) if kind in _AUDIO_DAMAGE else None
    if damage:
        raise Undecodable(f"damaged sound: {damage}")
    if not frames:
        raise Undecodable("the sound has no samples")
    if frames * channels > MAX_AUDIO_SAMPLES:
        raise Undecodable(f"{frames} x {channels} samples, more than the {MAX_AUDIO_SAMPLES} allowed")


def _fitted(wave: Samples, rate: int, sample_rate: int, num_samples: int, from_start: bool) -> Samples:
    """(T,) at `rate` as (num_samples,) at `sample_rate`."""
    if not np.isfinite(wave).all():
        raise Undecodable("the sound has samples that aren't finite")
    if rate != sample_rate:
        from scipy.signal import resample_poly

        divisor = math.gcd(rate, sample_rate)
        up, down = sample_rate // divisor, rate // divisor
        # What lies further from the middle than the filter reaches (10 * max(up, down) taps a side) has no part in it.
        reach = 10 * max(up, down) // up + 2
        near = _cut(wave, -(-num_samples * down // up) + 2 * reach, from_start)
        wave = resample_poly(near, up, down).astype(np.float32)
    return fit_length(wave, num_samples, from_start=from_start)


def fit_length(wave: Samples, num_samples: int, *, from_start: bool = False) -> Samples:
    """(T,) as (num_samples,) in [-1, 1]: the middle of what is longer, or its start; silence after what is shorter,
    which `length_of` tells from the sound.
    """
    found = np.full(num_samples, _ENDED)
    # A zero of the sound has no sign.
    found[: len(wave)] = np.clip(_cut(wave, num_samples, from_start), -1, 1) + np.float32(0)
    return found


def length_of(sound: Samples) -> int:
    """How many samples of (N,) come before its end."""
    is_sound = (sound != 0) | ~np.signbit(sound)
    return len(sound) - int(is_sound[::-1].argmax()) if is_sound.any() else 0


def _cut(wave: Samples, length: int, from_start: bool) -> Samples:
    start = 0 if from_start else max(0, len(wave) - length) // 2
    return wave[start : start + length]
