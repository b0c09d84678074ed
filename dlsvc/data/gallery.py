"""Samples to look at: pictures in a grid, sounds as spectrograms, texts as lines; and beside them, augmented."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsvc.augment import keys
from dlsvc.augment.pipeline import Pipeline
from dlsvc.data.codecs import Undecodable, apart, decode_audio, decode_image, encode_png, resize_pixels
from dlsvc.data.splits import Source
from dlsvc.data.table import Table
from dlsvc.data.video_input import VideoInput

_COLUMNS, _ROWS = 10, 6
CELL, _CAPTION = 96, 16
_SAMPLES = 8
# What a sound is looked at as, where the catalog doesn't say.
_SAMPLE_RATE, _SECONDS = 8000, 2
_WINDOW = 256
# Of a film four frames are looked at.
_FILM = VideoInput(4, CELL // 2, 3, (0.0,), (1.0,))

Pixels = NDArray[np.uint8]


def draw_augmented(source: Source, augmentations: Sequence[Any], path: Path | None) -> dict[str, Any]:
    """Some training samples, each followed by what epochs 0, 1, ... make of it: pictures and spectrograms as PNG at
    `path`, texts in the answer.
    """
    table, pipeline = source.table("train"), Pipeline(tuple(augmentations))
    ids = spread(table, _SAMPLES)
    rows = table.rows(ids)
    samples = _decoded(rows, source)
    versions = [samples] + [pipeline.apply(samples, _keys(ids, epoch)) for epoch in range(_COLUMNS - 1)]
    found: dict[str, Any] = {}
    if path is not None and (strips := _strips(versions)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(np.concatenate(strips)))
        found["grid"] = str(path)
    if "text" in samples:
        found["texts"] = [[version["text"][place] for version in versions[:4]] for place in range(len(ids))]
    return found


def _keys(ids: NDArray[np.int64], epoch: int) -> keys.Keys:
    return keys.sample_keys(0, np.full_like(ids, epoch), ids)


def _decoded(rows: dict[str, Any], source: Source) -> dict[str, Any]:
    """Samples as augmentations take them, of one size."""
    found: dict[str, Any] = {"text": list(rows["text"])} if "text" in rows else {}
    if "image" in rows:
        channels, size = source.channels or 3, source.image_size or CELL
        shown = [[_pixels(one, channels, size) for one in _images(image)] for image in rows["image"]]
        most = max(map(len, shown))
        white = np.full((size, size, channels), 255, np.uint8)
        whole = np.stack([np.stack([*images, *[white] * (most - len(images))]) for images in shown])
        found["image"] = whole if most > 1 else whole[:, 0]
    if "video" in rows:
        found["video"] = np.stack([film_frames(film) for film in rows["video"]])
    if "audio" in rows:
        found["audio"] = np.stack([sound_wave(sound) for sound in rows["audio"]])
    return found


def _images(image: Any) -> list[Any]:
    """A sample's images: one, but of some conversations."""
    return (apart(image) or [image]) if isinstance(image, bytes) else [image]


def _pixels(image: Any, channels: int, size: int) -> Pixels:
    try:
        return decode_image(image, channels, size) if isinstance(image, bytes) else resize_pixels(image, channels, size)
    except Undecodable:
        return np.zeros((size, size, channels), np.uint8)


def film_frames(film: Any) -> Pixels:
    """(T, H, W, C)"""
    try:
        return _FILM.decode(film)
    except Undecodable:
        return np.zeros(_FILM.shape, np.uint8)


def in_square(images: Pixels) -> Pixels:
    """(H, W, C) as it is; several, such as the frames of a film, (N, H, W, C), as one picture: 2 or 4 in a square."""
    if images.ndim == 3 or len(images) == 1:
        return images.reshape(images.shape[-3:])
    side = int(np.ceil(np.sqrt(len(images))))
    white = [np.full_like(images[0], 255)] * (side * side - len(images))
    whole = np.stack([*images, *white])
    return np.concatenate(
        [np.concatenate(list(whole[first : first + side]), 1) for first in range(0, side * side, side)]
    )


def sound_wave(sound: Any) -> NDArray[np.float32]:
    try:
        return decode_audio(sound, _SAMPLE_RATE, _SAMPLE_RATE * _SECONDS)
    except Undecodable:
        return np.zeros(_SAMPLE_RATE * _SECONDS, np.float32)


def _strips(versions: Sequence[dict[str, Any]]) -> list[Pixels]:
    """A line of cells a sample: itself, then its versions."""
    captions = ["as it is", *(f"epoch {epoch}" for epoch in range(len(versions) - 1))]
    for kind, shown in (("image", in_square), ("video", in_square), ("audio", spectrogram)):
        if kind in versions[0]:
            return [
                np.concatenate([cell(shown(v[kind][place]), c) for v, c in zip(versions, captions, strict=True)], 1)
                for place in range(len(versions[0][kind]))
            ]
    return []


def spectrogram(sound: NDArray[np.float32]) -> Pixels:
    """(F, T) uint8, low frequencies below: decibels of the short-time spectrum over 80 dB, as a picture."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, _WINDOW)[:: _WINDOW // 2]
    power = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW), axis=1)).T[::-1]
    decibels = 20 * np.log10(power / max(float(power.max()), 1e-9) + 1e-4)
    return ((decibels + 80) / 80 * 255).clip(0, 255).astype(np.uint8)


def column_stats(source: Source, limit: int = 2000) -> dict[str, Any]:
    """What the training split's columns hold, over up to `limit` rows at even distances."""
    table = source.table("train")
    rows = table.rows(spread(table, limit))
    found: dict[str, Any] = {"rows": len(next(iter(rows.values())))}
    if "image" in rows:
        found["image"] = _image_stats(rows["image"])
    for name in ("features", "series"):
        if name in rows:
            axes = tuple(range(rows[name].ndim - 1))
            found[name] = {"mean": rows[name].mean(axes).tolist(), "std": rows[name].std(axes).tolist()}
    for name in ("text", "target_text", "question", "answer"):
        if name in rows:
            words = np.asarray([len(text.split()) for text in rows[name]])
            found[name] = {"words_mean": float(words.mean()), "words_most": int(words.max())}
    return found


def _image_stats(images: Any) -> dict[str, Any]:
    """Mean and deviation by channel of pixels in [0, 1], and the sizes that occur."""
    sizes: dict[str, int] = {}
    sums, squares, count = np.zeros(3), np.zeros(3), 0
    for image in (one for sample in images for one in _images(sample)):
        try:
            pixels = decode_image(image, 3) if isinstance(image, bytes) else resize_pixels(image, 3, image.shape[0])
        except Undecodable:
            continue
        name = f"{pixels.shape[1]}x{pixels.shape[0]}"
        sizes[name] = sizes.get(name, 0) + 1
        values = pixels.reshape(-1, 3) / 255
        sums, squares, count = sums + values.sum(0), squares + np.square(values).sum(0), count + len(values)
    mean = sums / max(count, 1)
    std = np.sqrt(squares / max(count, 1) - np.square(mean))
    commonest = sorted(sizes.items(), key=lambda item: -item[1])[:5]
    return {"mean": mean.round(4).tolist(), "std": std.round(4).tolist(), "sizes": dict(commonest)}


def draw(source: Source, path: Path) -> str | None:
    """The first pictures of each class side by side with their labels, as PNG; None when there are none."""
    table = source.table("train")
    if "image" not in table.columns:
        return None
    rows = table.rows(spread(table, _COLUMNS * _ROWS))
    cells = [cell(image, _caption(rows, source, place)) for place, image in enumerate(rows["image"])]
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % _COLUMNS)
    lines = [np.concatenate(cells[first : first + _COLUMNS], axis=1) for first in range(0, len(cells), _COLUMNS)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(np.concatenate(lines)))
    return str(path)


def spread(table: Table, count: int) -> NDArray[np.int64]:
    """Up to `count` rows at even distances, for sets that are sorted by class."""
    return np.unique(np.linspace(0, len(table) - 1, min(count, len(table))).astype(np.int64))


def _caption(rows: dict[str, Any], source: Source, place: int) -> str:
    return source.classes[int(rows["label"][place])] if "label" in rows else ""


def cell(image: Any, caption: str) -> Pixels:
    """A picture, encoded or as pixels, on a card with a line of text."""
    from PIL import Image, ImageDraw

    try:
        pixels = _shown(image) if isinstance(image, bytes) else image
    except Undecodable:
        pixels, caption = np.zeros((8, 8), np.uint8), "can't be decoded"
    picture = Image.fromarray(np.ascontiguousarray(pixels.squeeze())).convert("RGB")
    # Small pictures are enlarged without smoothing, so that their pixels show.
    filtering = Image.Resampling.NEAREST if max(picture.size) < CELL else Image.Resampling.BILINEAR
    cell = Image.new("RGB", (CELL + 4, CELL + 4 + _CAPTION), "white")
    cell.paste(picture.resize((CELL, CELL), filtering), (2, 2))
    ImageDraw.Draw(cell).text((4, CELL + 3), shorten(caption, 15), fill="black")
    return np.asarray(cell)


def _shown(image: bytes) -> Pixels:
    """A sample's image as it is, or its several ones."""
    images = apart(image)
    if len(images) < 2:
        return decode_image(image, 3)
    return in_square(np.stack([decode_image(one, 3, CELL) for one in images]))


def shorten(text: str, length: int) -> str:
    plain = text.encode("ascii", "replace").decode()
    return plain if len(plain) <= length else plain[: length - 2] + ".."
