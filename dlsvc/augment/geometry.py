"""Geometry of images: each operation is a matrix, so that a list of them is one matrix and one interpolation.

`matrix(keys, size)` gives (B, 3, 3) float64: output pixel (x, y, 1) -> where it is read in the input, pixel centres at
whole numbers, x to the right and y down. What comes into view repeats the image's edge. Masks follow by the nearest
pixel, boxes by their corners.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlsvc.augment import keys as random
from dlsvc.augment.ranges import between, check_probability, check_range, check_within, chosen
from dlsvc.augment.registry import register_augmentation

Matrices = NDArray[np.float64]
Size = tuple[int, int]


@register_augmentation("shift", modality="image")
@dataclass(frozen=True)
class Shift:
    """Moves the image by up to `max_pixels` whole pixels along both axes."""

    max_pixels: int
    p: float = 1.0

    def __post_init__(self) -> None:
        check_within("shift", "max_pixels", self.max_pixels, 0)
        check_probability("shift", self.p)

    def matrix(self, keys: random.Keys, size: Size) -> Matrices:
        moves = random.integers(random.derive(keys, "shift/offset"), -self.max_pixels, self.max_pixels, (2,))
        return _gated(_moved(-moves[:, 1], -moves[:, 0]), chosen(keys, "shift", self.p))


@register_augmentation("flip", modality="image")
@dataclass(frozen=True)
class HorizontalFlip:
    """Swaps left and right with probability `p`."""

    p: float = 0.5

    def __post_init__(self) -> None:
        check_probability("flip", self.p)

    def matrix(self, keys: random.Keys, size: Size) -> Matrices:
        return _gated(_mirrored(len(keys), 0, size[1]), chosen(keys, "flip", self.p))


@register_augmentation("vertical-flip", modality="image")
@dataclass(frozen=True)
class VerticalFlip:
    """Swaps top and bottom with probability `p`."""

    p: float = 0.5

    def __post_init__(self) -> None:
        check_probability("vertical-flip", self.p)

    def matrix(self, keys: random.Keys, size: Size) -> Matrices:
        return _gated(_mirrored(len(keys), 1, size[0]), chosen(keys, "vertical-flip", self.p))


@register_augmentation("rotation", modality="image")
@dataclass(frozen=True)
class Rotation:
    """Turns the image about its centre by an angle in [-max_degrees, max_degrees], anticlockwise where positive."""

    max_degrees: float = 15.0
    p: float = 1.0

    def __post_init__(self) -> None:
        check_within("rotation", "max_degrees", self.max_degrees, 0, 180)
        check_probability("rotation", self.p)

    def matrix(self, keys: random.Keys, size: Size) -> Matrices:
        angle = np.radians(between(keys, "rotation/angle", -self.max_degrees, self.max_degrees))
        cos, sin = np.cos(angle), np.sin(angle)
        return _gated(_about_centre(size, cos, -sin, sin, cos), chosen(keys, "rotation", self.p))


@register_augmentation("scale", modality="image")
@dataclass(frozen=True)
class Scale:
    """Enlarges the image about its centre by a factor in [min_factor, max_factor]; its size in pixels stays."""

    min_factor: float = 0.9
    max_factor: float = 1.1
    p: float = 1.0

    def __post_init__(self) -> None:
        check_range("scale", "factor", self.min_factor, self.max_factor, 0.01, 100)
        check_probability("scale", self.p)

    def matrix(self, keys: random.Keys, size: Size) -> Matrices:
        step = 1 / between(keys, "scale/factor", self.min_factor, self.max_factor)
        none = np.zeros(len(keys))
        return _gated(_about_centre(size, step, none, none, step), chosen(keys, "scale", self.p))


@register_augmentation("translation", modality="image")
@dataclass(frozen=True)
class Translation:
    """Moves the image by up to `max_fraction` of its width and height, by parts of pixels too."""

    max_fraction: float = 0.1
    p: float = 1.0

    def __post_init__(self) -> None:
        check_within("translation", "max_fraction", self.max_fraction, 0, 1)
        check_probability("translation", self.p)

    def matrix(self, keys: random.Keys, size: Size) -> Matrices:
        x = between(keys, "translation/x", -self.max_fraction, self.max_fraction) * size[1]
        y = between(keys, "translation/y", -self.max_fraction, self.max_fraction) * size[0]
        return _gated(_moved(-x, -y), chosen(keys, "translation", self.p))


@register_augmentation("shear", modality="image")
@dataclass(frozen=True)
class Shear:
    """Slants the image about its centre by up to `max_degrees` along each axis."""

    max_degrees: float = 10.0
    p: float = 1.0

    def __post_init__(self) -> None:
        check_within("shear", "max_degrees", self.max_degrees, 0, 80)
        check_probability("shear", self.p)

    def matrix(self, keys: random.Keys, size: Size) -> Matrices:
        limit = self.max_degrees
        x, y = (np.tan(np.radians(between(keys, f"shear/{axis}", -limit, limit))) for axis in "xy")
        one = np.ones(len(keys))
        return _gated(_about_centre(size, one, x, y, one), chosen(keys, "shear", self.p))


@register_augmentation("crop", modality="image")
@dataclass(frozen=True)
class Crop:
    """Takes a part whose sides are `min_side` to 1 of the image's, anywhere in it, and enlarges it to the whole."""

    min_side: float = 0.8
    p: float = 1.0

    def __post_init__(self) -> None:
        check_within("crop", "min_side", self.min_side, 0.01, 1)
        check_probability("crop", self.p)

    def matrix(self, keys: random.Keys, size: Size) -> Matrices:
        side = between(keys, "crop/side", self.min_side, 1.0)
        return _gated(_cropped(keys, "crop", size, side, side), chosen(keys, "crop", self.p))


@register_augmentation("random-resized-crop", modality="image")
@dataclass(frozen=True)
class RandomResizedCrop:
    """Takes a part of `min_area` to `max_area` of the image, its aspect changed by up to `max_ratio`, and enlarges it
    to the whole (Szegedy et al. 2015, section 6).
    """

    min_area: float = 0.08
    max_area: float = 1.0
    max_ratio: float = 1.3333
    p: float = 1.0

    def __post_init__(self) -> None:
        check_range("random-resized-crop", "area", self.min_area, self.max_area, 1e-4, 1)
        check_within("random-resized-crop", "max_ratio", self.max_ratio, 1, 100)
        check_probability("random-resized-crop", self.p)

    def matrix(self, keys: random.Keys, size: Size) -> Matrices:
        area = between(keys, "random-resized-crop/area", self.min_area, self.max_area)
        limit = math.log(self.max_ratio)
        ratio = np.exp(between(keys, "random-resized-crop/ratio", -limit, limit))
        # Sides that would leave the image are cut to it, instead of drawn again as torchvision does.
        width, height = np.minimum(np.sqrt(area * ratio), 1), np.minimum(np.sqrt(area / ratio), 1)
        parts = _cropped(keys, "random-resized-crop", size, width, height)
        return _gated(parts, chosen(keys, "random-resized-crop", self.p))


def compose(matrices: list[Matrices], count: int) -> Matrices:
    """One matrix for operations in the order of the list: the last one's output is asked first."""
    whole = np.tile(np.eye(3), (count, 1, 1))
    for matrix in matrices:
        whole = whole @ matrix
    return whole


def move_boxes(boxes: NDArray[np.float32], matrix: Matrices, size: Size) -> NDArray[np.float32]:
    """(B, N, 4) corners x1, y1, x2, y2 after the geometry: the box around the moved corners, cut to the image; NaN
    where nothing of it is left, as where it was NaN.
    """
    x1, y1, x2, y2 = np.moveaxis(boxes.astype(np.float64), -1, 0)
    corners = np.stack([np.stack([x, y, np.ones_like(x)], -1) for x, y in ((x1, y1), (x2, y1), (x1, y2), (x2, y2))], 2)
    moved = np.einsum("bij,bnkj->bnki", np.linalg.inv(matrix), corners)[..., :2]
    limits = np.asarray([size[1] - 1, size[0] - 1], np.float64)
    low, high = np.clip(moved.min(2), 0, limits), np.clip(moved.max(2), 0, limits)
    found = np.concatenate([low, high], -1)
    found[(high <= low).any(-1)] = np.nan
    return found.astype(np.float32)


def _gated(matrix: Matrices, on: NDArray[np.bool_]) -> Matrices:
    return np.where(on[:, None, None], matrix, np.eye(3))


def _moved(x: NDArray[np.generic], y: NDArray[np.generic]) -> Matrices:
    found = np.tile(np.eye(3), (len(x), 1, 1))
    found[:, 0, 2], found[:, 1, 2] = x, y
    return found


def _mirrored(count: int, axis: int, length: int) -> Matrices:
    found = np.tile(np.eye(3), (count, 1, 1))
    found[:, axis, axis], found[:, axis, 2] = -1, length - 1
    return found


def _about_centre(
    size: Size, a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64], d: NDArray[np.float64]
) -> Matrices:
    """[[a, b], [c, d]] with the image's centre kept in place."""
    x, y = (size[1] - 1) / 2, (size[0] - 1) / 2
    found = _moved(x - a * x - b * y, y - c * x - d * y)
    found[:, 0, 0], found[:, 0, 1], found[:, 1, 0], found[:, 1, 1] = a, b, c, d
    return found


def _cropped(
    keys: random.Keys, name: str, size: Size, width: NDArray[np.float64], height: NDArray[np.float64]
) -> Matrices:
    """A part of the given shares of the sides, at a place of its own, read as the whole; edges meet edges."""
    left = random.uniform(random.derive(keys, f"{name}/x")) * (1 - width) * size[1]
    top = random.uniform(random.derive(keys, f"{name}/y")) * (1 - height) * size[0]
    # Pixel i covers [i, i + 1) of the sides, so its centre is at i + 1/2.
    found = _moved(left + width / 2 - 0.5, top + height / 2 - 0.5)
    found[:, 0, 0], found[:, 1, 1] = width, height
    return found
