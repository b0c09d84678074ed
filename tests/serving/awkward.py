"""Requests that nobody hopes for, by what a model reads: each has an answer or a reason, never a failure of ours."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from dlsvc.data.codecs import encode_png
from tests.serving.client import chirp, film, picture

# Of texts all have an answer but those that are too long, unless they are to be cut.
TEXTS = {
    "empty": "",
    "spaces": "  \n\t",
    "unknown words": "zzqx qwrtz",
    "another language": "да",
    "another script": "语",
    "no words": "😀",
    "a zero byte": "a\0b",
    "marks between letters": "e\u0301\u202e\ufeff",
    "names of special tokens": "<pad><eos><unk>",
}
LONG = {"many words": "the large wild cat " * 500, "with a mask at the end": "the cat " * 500 + "<mask>"}


def encoded(mode: str, kind: str = "PNG", **options: Any) -> bytes:
    """Noise in one of Pillow's modes as a file."""
    random = np.random.default_rng(0)
    if mode == "I;16":
        image = Image.fromarray(random.integers(0, 2**16, (20, 20)).astype(np.uint16))
    else:
        image = Image.fromarray(random.integers(0, 256, (20, 20, 3), dtype=np.uint8)).convert(mode)
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


IMAGES = {
    **{mode: encoded(mode) for mode in ("RGBA", "LA", "P", "1", "L", "I;16")},
    "a transparent colour": encoded("P", transparency=3),
    "CMYK": encoded("CMYK", "JPEG"),
    "grey JPEG": encoded("L", "JPEG"),
    "WEBP with alpha": encoded("RGBA", "WEBP"),
    "an animation": film(0),
    "a line": encode_png(np.zeros((1, 3000), np.uint8)),
}
# What is wrong with a file or a series, and what is said of it.
WRONG_IMAGES = {
    "another format": (encoded("RGB", "TIFF"), "not a PNG, JPEG, WEBP, GIF or BMP image"),
    "a sound": (chirp(0), "not a PNG, JPEG, WEBP, GIF or BMP image"),
    "cut off": (encoded("RGB")[:200], "damaged image"),
}


def wave(samples: Any, rate: int = 8000, **options: Any) -> bytes:
    """Samples as WAV."""
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format="WAV", **options)
    return out.getvalue()


SOUNDS = {
    "silence": wave(np.zeros(8000)),
    "one sample": wave(np.zeros(1)),
    "two channels": wave(np.zeros((800, 2))),
    "beyond full scale": wave(np.full(800, 9.0), subtype="FLOAT"),
    "another rate": wave(np.sin(np.arange(44100)), 44101),
    "one sample a second": wave(np.ones(10) / 10, 1),
}
WRONG_SOUNDS = {
    "no samples": (wave(np.zeros(0)), "the sound has no samples"),
    "not a number": (wave(np.full(800, np.nan), subtype="FLOAT"), "samples that aren't finite"),
    "an image": (picture(0), r"not a WAV, FLAC, OGG sound: [^<]*$"),
    "cut off": (chirp(0)[:500], "damaged sound"),
}

FILMS = {
    "one frame": picture(0, 3),
    "an animation of one frame": film(0, 1),
    "two frames": film(0, 2),
    "more frames than are read": film(0, 40),
    "16 bits of grey": encoded("I;16"),
}
WRONG_FILMS = {
    "frames that aren't square": (encode_png(np.zeros((30, 20, 3), np.uint8)), "aren't square frames"),
    "cut off within a frame": (film(0, 9)[:-200], "damaged film"),
    "a sound": (chirp(0), "not a PNG"),
}


def series(value: Any) -> list[list[Any]]:
    """A series for the watch's model, one of whose numbers is another."""
    steps: list[list[Any]] = [[0.1] * 6 for _ in range(200)]
    steps[3][1] = value
    return steps


SERIES = {"constant": series(0.1), "all zero": [[0.0] * 6] * 200}
_NOT_FINITE = "step 3 of ay isn't a finite number"
WRONG_SERIES = {
    "not a number": (series(math.nan), _NOT_FINITE),
    "endless": (series(math.inf), _NOT_FINITE),
    "missing": (series(None), _NOT_FINITE),
    "more than fits": (series(1e300), _NOT_FINITE),
    "more digits than fit": (series(10**400), "not a list of steps"),
    "a text": (series("x"), "not a list of steps"),
    "ragged": ([*series(0.0)[:-1], [1.0]], "not a list of steps"),
    "short": (series(0.0)[:10], r"a series of shape \(10, 6\); the model reads 200 steps of 6"),
}
