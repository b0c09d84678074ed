"""No broken file is taken for a good one: each kind of damage is refused with a reason."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from dlsvc.data.codecs import Undecodable, decode_audio, decode_image
from tests.data.damage import JPEG_DAMAGE, PNG_DAMAGE, Damage, jpeg, png

REASONS = {
    "empty": "the file is empty",
    "cut within the header": "damaged image: Truncated|the file is cut off",
    "cut in the middle": "the file is cut off",
    "without its end": "the file is cut off",
    "a bit flipped in the pixels": "checksum of chunk IDAT is wrong",
    "a bit flipped in the header": "checksum of chunk IHDR is wrong",
    "a page of HTML": "not a PNG, JPEG",
    "zeros": "not a PNG, JPEG",
    "a bomb": "megapixels",
    "no pixels": "without pixels|not a PNG, JPEG",
    "another format's beginning": "damaged image|not a PNG",
    "jpeg: cut in the middle": "damaged image",
    "jpeg: without its end": "damaged image",
    "jpeg: zeros in the scan": "damaged image",
    "jpeg: only its beginning": "not a PNG, JPEG|damaged image",
}


@pytest.mark.parametrize("kind", [*PNG_DAMAGE, *JPEG_DAMAGE])
@pytest.mark.parametrize("seed", range(3))
def test_broken_image_is_refused(kind: str, seed: int) -> None:
    damage, good = (PNG_DAMAGE[kind], png(seed)) if kind in PNG_DAMAGE else (JPEG_DAMAGE[kind], jpeg(seed))
    assert decode_image(good, 3).shape == (32, 32, 3)
    with pytest.raises(Undecodable, match=REASONS[kind]):
        decode_image(damage(good), 3, 16)


def sound(kind: str) -> bytes:
    out = io.BytesIO()
    wave = np.sin(np.arange(8000) / 20).astype(np.float32) * 0.5
    soundfile.write(out, wave, 8000, format=kind, subtype="FLOAT" if kind == "WAV" else None)
    return out.getvalue()


def not_finite(data: bytes) -> bytes:
    return data[:-400] + np.full(100, np.nan, "<f4").tobytes()


SOUND_DAMAGE: dict[str, Damage] = {
    "empty": lambda data: b"",
    "cut in the middle": lambda data: data[: len(data) // 2],
    "cut within the header": lambda data: data[:16],
    "another file": lambda data: png(),
}


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG"])
@pytest.mark.parametrize("how", SOUND_DAMAGE)
def test_broken_sound_is_refused(kind: str, how: str) -> None:
    assert decode_audio(sound(kind), 8000, 8000).shape == (8000,)
    with pytest.raises(Undecodable):
        decode_audio(SOUND_DAMAGE[how](sound(kind)), 8000, 8000)


def test_sound_of_no_numbers_is_refused() -> None:
    with pytest.raises(Undecodable, match="aren't finite"):
        decode_audio(not_finite(sound("WAV")), 8000, 8000)
