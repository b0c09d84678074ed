"""Colour of images: each operation is an affine map of a pixel's channels, so that a list of them is one map.

`colour(keys, mean)` gives (B, C, C + 1) float64 on values in [0, 255]: the last column is added. `mean` (B, C) is the
image's mean colour as it is before the operation; the mean of an affine map is the map of the mean, so contrast
composes exactly. Grey is ITU-R BT.601 luma, as in Pillow and torchvision. With one channel there is no saturation or
hue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlsvc.augment import keys as random
from dlsvc.augment.ranges import between, check_probability, check_range, check_within, chosen
from dlsvc.augment.registry import register_augmentation

Maps = NDArray[np.float64]
Means = NDArray[np.float64]

_LUMA = np.asarray([0.299, 0.587, 0.114])


@register_augmentation("brightness", modality="image")
@dataclass(frozen=True)
class Brightness:
    """Multiplies every value by a factor in [min_factor, max_factor]."""

    min_factor: float = 0.8
    max_factor: float = 1.2
    p: float = 1.0

    def __post_init__(self) -> None:
        check_range("brightness", "factor", self.min_factor, self.max_factor, 0, 100)
        check_probability("brightness", self.p)

    def colour(self, keys: random.Keys, mean: Means) -> Maps:
        factor = between(keys, "brightness/factor", self.min_factor, self.max_factor)
        return _gated(_brightness(factor, mean), chosen(keys, "brightness", self.p))


@register_augmentation("contrast", modality="image")
@dataclass(frozen=True)
class Contrast:
    """Moves every value away from the image's mean grey by a factor in [min_factor, max_factor]."""

    min_factor: float = 0.8
    max_factor: float = 1.2
    p: float = 1.0

    def __post_init__(self) -> None:
        check_range("contrast", "factor", self.min_factor, self.max_factor, 0, 100)
        check_probability("contrast", self.p)

    def colour(self, keys: random.Keys, mean: Means) -> Maps:
        factor = between(keys, "contrast/factor", self.min_factor, self.max_factor)
        return _gated(_contrast(factor, mean), chosen(keys, "contrast", self.p))


@register_augmentation("saturation", modality="image")
@dataclass(frozen=True)
class Saturation:
    """Moves every pixel away from its own grey by a factor in [min_factor, max_factor]; 0 leaves grey."""

    min_factor: float = 0.8
    max_factor: float = 1.2
    p: float = 1.0

    def __post_init__(self) -> None:
        check_range("saturation", "factor", self.min_factor, self.max_factor, 0, 100)
        check_probability("saturation", self.p)

    def colour(self, keys: random.Keys, mean: Means) -> Maps:
        factor = between(keys, "saturation/factor", self.min_factor, self.max_factor)
        return _gated(_saturation(factor, mean), chosen(keys, "saturation", self.p))


@register_augmentation("hue", modality="image")
@dataclass(frozen=True)
class Hue:
    """Turns colours about the grey axis by up to `max_degrees`. Linear, unlike the hue of HSV, whose turn keeps the
    largest channel and not the sum of all three.
    """

    max_degrees: float = 18.0
    p: float = 1.0

    def __post_init__(self) -> None:
        check_within("hue", "max_degrees", self.max_degrees, 0, 180)
        check_probability("hue", self.p)

    def colour(self, keys: random.Keys, mean: Means) -> Maps:
        angle = np.radians(between(keys, "hue/angle", -self.max_degrees, self.max_degrees))
        return _gated(_hue(angle, mean), chosen(keys, "hue", self.p))


@register_augmentation("jitter", modality="image")
@dataclass(frozen=True)
class ColourJitter:
    """Brightness, contrast, saturation (each 1 +- its share) and hue (+- degrees), in this order."""

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue_degrees: float = 0.0
    p: float = 1.0

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            check_within("jitter", name, getattr(self, name), 0, 1)
        check_within("jitter", "hue_degrees", self.hue_degrees, 0, 180)
        check_probability("jitter", self.p)

    def colour(self, keys: random.Keys, mean: Means) -> Maps:
        draws = {name: getattr(self, name) for name in ("brightness", "contrast", "saturation")}
        factors = {name: between(keys, f"jitter/{name}", 1 - share, 1 + share) for name, share in draws.items()}
        angle = np.radians(between(keys, "jitter/hue", -self.hue_degrees, self.hue_degrees))
        whole = _brightness(factors["brightness"], mean)
        for step, value in ((_contrast, factors["contrast"]), (_saturation, factors["saturation"]), (_hue, angle)):
            whole = chain(whole, step(value, mapped(whole, mean)))
        return _gated(whole, chosen(keys, "jitter", self.p))


def identity(count: int, channels: int) -> Maps:
    return np.tile(np.eye(channels, channels + 1), (count, 1, 1))


def chain(first: Maps, then: Maps) -> Maps:
    """One map for two, in this order."""
    whole = then[..., :-1] @ first
    whole[..., -1] += then[..., -1]
    return whole


def mapped(maps: Maps, values: Means) -> Means:
    """(B, C) colours through the maps."""
    found: Means = np.einsum("bij,bj->bi", maps[..., :-1], values) + maps[..., -1]
    return found


def _gated(maps: Maps, on: NDArray[np.bool_]) -> Maps:
    return np.where(on[:, None, None], maps, identity(1, maps.shape[1]))


def _brightness(factor: NDArray[np.float64], mean: Means) -> Maps:
    return identity(*mean.shape) * factor[:, None, None]


def _contrast(factor: NDArray[np.float64], mean: Means) -> Maps:
    found = _brightness(factor, mean)
    found[..., -1] = ((1 - factor) * (mean * _weights(mean)).sum(1))[:, None]
    return found


def _saturation(factor: NDArray[np.float64], mean: Means) -> Maps:
    found = _brightness(factor, mean)
    found[..., :-1] += (1 - factor)[:, None, None] * _weights(mean)
    return found


def _hue(angle: NDArray[np.float64], mean: Means) -> Maps:
    """Rodrigues' rotation about (1, 1, 1)."""
    found = identity(*mean.shape)
    if mean.shape[1] == 3:
        cross = np.asarray([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
        cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
        found[..., :-1] = cos * np.eye(3) + sin * cross + (1 - cos) / 3
    return found


def _weights(mean: Means) -> NDArray[np.float64]:
    return _LUMA if mean.shape[1] == 3 else np.ones(1)
