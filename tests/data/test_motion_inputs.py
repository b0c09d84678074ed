"""Films and series as models read them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dlsvc.data.codecs import Undecodable, encode_png
from dlsvc.data.fit import build_preprocess
from dlsvc.data.preprocess import Preprocess
from dlsvc.data.series_input import SeriesInput
from dlsvc.data.source import open_source
from dlsvc.data.video_input import VideoInput
from dlsvc.spec.data_sections import DataSpec

FILM = VideoInput(4, 6, 3, (0.5,), (0.25,))
FRAMES = np.random.default_rng(0).integers(0, 256, (8, 6, 6, 3), dtype=np.uint8)


def _animated(kind: str, frames: Any, **options: Any) -> bytes:
    out = io.BytesIO()
    pictures = [Image.fromarray(frame) for frame in frames]
    pictures[0].save(out, kind, save_all=True, append_images=pictures[1:], **options)
    return out.getvalue()


def test_frames_come_at_even_distances() -> None:
    whole = FILM.decode(_animated("WEBP", FRAMES, lossless=True))
    np.testing.assert_array_equal(whole, FRAMES[[0, 2, 5, 7]])
    np.testing.assert_array_equal(FILM.decode(encode_png(FRAMES.reshape(48, 6, 3))), whole)
    np.testing.assert_array_equal(FILM.decode(FRAMES.reshape(48, 6, 3)), whole)


def test_a_film_of_one_frame_stands_still() -> None:
    found = FILM.decode(encode_png(FRAMES[0]))
    np.testing.assert_array_equal(found, np.repeat(FRAMES[:1], 4, axis=0))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_frames_of_any_mode(mode: str) -> None:
    frames = [np.asarray(Image.fromarray(frame).convert("RGB")) for frame in FRAMES[:2]]
    pictures = [Image.fromarray(frame).convert(mode) for frame in frames]
    out = io.BytesIO()
    pictures[0].save(out, "PNG", save_all=True, append_images=pictures[1:])
    assert FILM.decode(out.getvalue()).shape == (4, 6, 6, 3)


def test_films_are_normalised_by_channel() -> None:
    films = np.stack([FRAMES[:4], FRAMES[4:]])
    found = FILM.normalise(films)
    np.testing.assert_allclose(found, (films.transpose(0, 4, 1, 2, 3) / 255 - 0.5) / 0.25, rtol=1e-5, atol=1e-6)
    assert found.flags["C_CONTIGUOUS"]


def test_no_film() -> None:
    with pytest.raises(Undecodable, match="square frames"):
        FILM.decode(encode_png(FRAMES[0][:5]))
    with pytest.raises(Undecodable, match="empty"):
        FILM.decode(b"")


def test_a_series_is_standardised_by_channel() -> None:
    series = SeriesInput(3, ("x", "y"), (1.0, 2.0), (2.0, 4.0))
    found = series.standardise(np.asarray([[[1, 2], [3, 6], [5, 10]]], np.float32))
    np.testing.assert_array_equal(found, [[[0, 1, 2], [0, 1, 2]]])
    assert SeriesInput(2, ("x",), (0.0,), (1.0,)).decode([1, 2]).shape == (2, 1)


@pytest.mark.parametrize(
    ("source", "key", "shape"), [("watch", "series", (6, 200)), ("wesnoth", "video", (3, 8, 72, 72))]
)
def test_the_catalogs_own(source: str, key: str, shape: tuple[int, ...], data_home: Path) -> None:
    data = DataSpec(source=source)
    opened = open_source(data, data_home)
    preprocess = build_preprocess(data, opened)
    again = Preprocess.from_json(preprocess.to_json())
    assert again == preprocess
    table = opened.table("train")
    ids = np.arange(len(table))[:: 1 if key == "series" else 40]
    samples, bad = again.decode(table.rows(ids))
    assert not bad
    batch = again.finish(samples)[key]
    assert batch.shape == (len(ids), *shape)
    if key == "series":
        np.testing.assert_allclose(batch.mean((0, 2)), 0, atol=1e-3)
        np.testing.assert_allclose(batch.std((0, 2)), 1, atol=1e-3)
