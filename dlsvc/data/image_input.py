"""An image, or the several of a conversation, as pixels for the model.

B samples of N images, H x W pixels, C channels.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlsvc.data.codecs import Pixels, Undecodable, apart, decode_image, resize_pixels

# Pixels of an image that is not resized: enlarged four times to a side it takes half a gigabyte a layer of 64 channels.
LARGEST_WHOLE = 2**17


@dataclass(frozen=True)
class ImageInput:
    """Resized to size x size, then (pixel / 255 - mean) / std by channel. With a `count` above one a sample has up to
    so many images, and black ones after its own.
    """

    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    count: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a sample's pixels."""
        one = (self.size, self.size, self.channels)
        return one if self.count == 1 else (self.count, *one)

    def decode(self, image: bytes | Pixels) -> Pixels:
        """uint8 of `shape`. Raises Undecodable."""
        if self.count == 1:
            return self._one(image)
        images: list[bytes | Pixels] = [image]
        if isinstance(image, bytes):
            images = [*apart(image)] or images
        if len(images) > self.count:
            raise Undecodable(f"the sample has {len(images)} images, and up to {self.count} are read")
        found = np.zeros(self.shape, np.uint8)
        for place, one in enumerate(images):
            found[place] = self._one(one)
        return found

    def _one(self, image: bytes | Pixels) -> Pixels:
        return _decoded(image, self.channels, self.size)

    def normalise(self, images: Pixels) -> NDArray[np.float32]:
        """(B, H, W, C) -> (B, C, H, W) float32, contiguous; with (B, N, ...) before and after alike."""
        if images.ndim == 5:
            return self.normalise(images.reshape(-1, *images.shape[2:])).reshape(
                *images.shape[:2], images.shape[4], *images.shape[2:4]
            )
        channels = images.shape[-1]
        found = np.empty((len(images), channels, *images.shape[1:3]), np.float32)
        for channel in range(channels):
            plane = images[..., channel]
            mean, std = self.mean[channel % len(self.mean)], self.std[channel % len(self.std)]
            # A byte has 256 values: looking them up is exact and several times as fast as computing each pixel's.
            found[:, channel] = _levels(mean, std)[plane]
        return found


@dataclass(frozen=True)
class WholeImage(ImageInput):
    """Not resized: for a model that makes a larger image of one of any size."""

    def _one(self, image: bytes | Pixels) -> Pixels:
        found = _decoded(image, self.channels, None)
        height, width = found.shape[:2]
        if height * width > LARGEST_WHOLE:
            raise Undecodable(f"the image is {width} x {height}; one of up to {LARGEST_WHOLE:,} pixels is enlarged")
        return found


def _decoded(image: bytes | Pixels, channels: int, size: int | None) -> Pixels:
    if isinstance(image, bytes):
        return decode_image(image, channels, size)
    return resize_pixels(image, channels, size)


@functools.lru_cache(maxsize=64)
def _levels(mean: float, std: float) -> NDArray[np.float32]:
    return ((np.arange(256) / 255 - mean) / std).astype(np.float32)
