"""A film as frames for the model.

B films of T frames, H x W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dlsvc.data.codecs import FORMATS, Pixels, Undecodable, decode_image, flatten, opened, resize_pixels
from dlsvc.data.splits import Source
from dlsvc.errors import DataError

if TYPE_CHECKING:
    from dlsvc.spec.data_sections import VideoSpec

# An animation longer than this is no clip. Of one with larger frames, fewer are read: to come to a frame, all before it
# are decoded.
MAX_FRAMES = 10_000
MAX_FILM_MEGAPIXELS = 1000


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
        if isinstance(film, np.ndarray):
            return self._still(film)
        first = decode_image(film, self.channels)  # also refuses what is damaged, too large or no image
        with opened(film, "film", FORMATS) as image:
            count = getattr(image, "n_frames", 1)
            if count == 1:
                return self._still(first)
            _check_count(count, image.size)
            return self._sized(_frame(image, place, self.channels) for place in self._places(count))

    def _still(self, picture: Pixels) -> Pixels:
        frames = _stacked(picture)
        if not len(frames):
            raise Undecodable("the film has no frames")
        return self._sized(frames[place] for place in self._places(len(frames)))

    def _places(self, count: int) -> list[int]:
        """Which of so many frames the model sees."""
        chosen: list[int] = np.linspace(0, count - 1, self.frames).round().astype(int).tolist()
        return chosen

    def _sized(self, frames: Iterable[Pixels]) -> Pixels:
        return np.stack([resize_pixels(frame, self.channels, self.size) for frame in frames])

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


def _check_count(count: int, size: tuple[int, int]) -> None:
    width, height = size
    if count > MAX_FRAMES:
        raise Undecodable(f"{count} frames, more than the {MAX_FRAMES} allowed")
    megapixels = count * width * height / 1e6
    if megapixels > MAX_FILM_MEGAPIXELS:
        raise Undecodable(
            f"{count} frames of {width} x {height} are {megapixels:,.0f} megapixels, more than the "
            f"{MAX_FILM_MEGAPIXELS:,} allowed"
        )


def _frame(image: Image.Image, place: int, channels: int) -> Pixels:
    image.seek(place)
    found = np.asarray(flatten(image.copy(), channels))
    return found[..., None] if found.ndim == 2 else found
