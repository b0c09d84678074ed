"""A film as frames for the model.

B films of T frames, H x W pixels, C channels.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dlsvc.data.codecs import Pixels, Undecodable, decode_image, flatten, resize_pixels
from dlsvc.data.source import Source
from dlsvc.errors import DataError

if TYPE_CHECKING:
    from dlsvc.spec.data_sections import VideoSpec

# An animation longer than this is no clip.
MAX_FRAMES = 10_000


@dataclass(frozen=True)
class VideoInput:
    """`frames` frames at even distances, each resized to size x size, then (pixel / 255 - mean) / std by channel."""

    frames: int
    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.frames, self.size, self.size, self.channels

    def decode(self, film: bytes | Pixels) -> Pixels:
        """(T, size, size, channels) uint8 of an animation (GIF, WEBP, APNG), of an image of square frames one below
        the other, or of such an array. A film of one frame stands still. Raises Undecodable.
        """
        frames = _stacked(film) if isinstance(film, np.ndarray) else _frames(film, self.channels)
        if not len(frames):
            raise Undecodable("the film has no frames")
        places = np.linspace(0, len(frames) - 1, self.frames).round().astype(int)
        return np.stack([resize_pixels(frames[place], self.channels, self.size) for place in places])

    def normalise(self, films: Pixels) -> NDArray[np.float32]:
        """(B, T, H, W, C) -> (B, C, T, H, W) float32, contiguous."""
        levels = (np.arange(256)[:, None] / 255 - np.asarray(self.mean)) / np.asarray(self.std)
        planes = [
            levels[:, place % levels.shape[1]].astype(np.float32)[films[..., place]] for place in range(self.channels)
        ]
        return np.stack(planes, axis=1)


def video_input(asked: VideoSpec | None, source: Source) -> VideoInput:
    """What a spec asks for, or the source's own facts. Raises DataError where neither says."""
    if asked is not None:
        return VideoInput(asked.frames, asked.size, asked.channels, asked.mean, asked.std)
    if source.image_size is None or source.channels is None or source.length is None:
        raise DataError(
            f"data.video must say how many frames of what size {source.name}'s films are made into, as in "
            "`video: {frames: 8, size: 64, channels: 3}`"
        )
    return VideoInput(source.length, source.image_size, source.channels, source.mean, source.std)


def _stacked(film: Pixels) -> Pixels:
    """(T * S, S) or (T * S, S, C) -> (T, S, S, ...)."""
    height, width = film.shape[:2]
    if not width or height % width:
        raise Undecodable(f"{height} x {width} pixels aren't square frames one below the other")
    return film.reshape(height // width, width, *film.shape[1:])


def _frames(film: bytes, channels: int) -> Pixels:
    first = decode_image(film, channels)  # also refuses what is damaged, too large or no image
    with Image.open(io.BytesIO(film)) as image:
        count = getattr(image, "n_frames", 1)
        if count == 1:
            return _stacked(first)
        if count > MAX_FRAMES:
            raise Undecodable(f"{count} frames, more than the {MAX_FRAMES} allowed")
        return np.stack([_frame(image, place, channels) for place in range(count)])


def _frame(image: Image.Image, place: int, channels: int) -> Pixels:
    image.seek(place)
    found = np.asarray(flatten(image.copy(), channels))
    return found[..., None] if found.ndim == 2 else found
