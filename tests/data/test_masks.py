"""Masks, from a file to a batch."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from dlsvc.data.codecs import Undecodable, decode_mask, encode_png
from dlsvc.data.image_input import ImageInput
from dlsvc.data.preprocess import Preprocess

TWO = np.array([[0, 2], [1, 1]], np.uint8)


def test_a_mask_is_resized_by_the_nearest_pixel() -> None:
    expected = TWO.repeat(4, 0).repeat(4, 1)
    assert np.array_equal(decode_mask(encode_png(TWO), 8), expected)
    assert np.array_equal(decode_mask(TWO, 8), expected)


def test_a_palettes_places_are_the_classes() -> None:
    image = Image.fromarray(TWO, "P")
    image.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
    out = io.BytesIO()
    image.save(out, "PNG")
    assert np.array_equal(decode_mask(out.getvalue(), 2), TWO)


@pytest.mark.parametrize(
    ("data", "reason"),
    [(encode_png(np.zeros((2, 2, 3), np.uint8)), "not RGB"), (encode_png(TWO)[:-9], "damaged"), (b"", "empty")],
)
def test_what_is_no_mask_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(Undecodable, match=reason):
        decode_mask(data, 2)


def test_masks_are_classes_and_a_class_too_many_is_a_bad_sample() -> None:
    rows = {"image": np.zeros((2, 2, 2), np.uint8), "mask": [encode_png(TWO), encode_png(TWO + 1)], "uri": ["a", "b"]}
    preprocess = Preprocess(image=ImageInput(2, 1, (0.0,), (1.0,)), classes=("sky", "sea", "land"))
    samples, bad = preprocess.decode(rows)
    assert [(row.position, row.uri) for row in bad] == [(1, "b")]
    assert "class 3, and there are 3" in bad[0].reason
    mask = preprocess.finish(samples)["mask"]
    assert mask.dtype == np.int64
    assert np.array_equal(mask[0], TWO)
