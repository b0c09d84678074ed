"""What neither moves pixels nor maps colours evenly: noise, blur, sharpening, levels, and patches laid over the end.

`apply(images, keys)` takes and gives (B, H, W, C) float32 in [0, 255], the source untouched. `cover(keys, size)` gives
(B, 4) int64 patches y1, x1, y2, x2 that are laid over everything else; an empty one covers nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlsvc.augment import keys as random
from dlsvc.augment.ranges import between, check_probability, check_range, check_within, chosen
from dlsvc.augment.registry import register_augmentation

Images = NDArray[np.float32]
_SHARPEN = np.asarray([1.0, 1.0, 1.0, 1.0, 5.0, 1.0, 1.0, 1.0, 1.0]) / 13


@register_augmentation("gaussian-noise", modality="image")
@dataclass(frozen=True)
class GaussianNoise:
    """Adds normal noise to every value, its deviation up to `max_std` of the full range."""

    max_std: float = 0.05
    p: float = 1.0

    def __post_init__(self) -> None:
        check_within("gaussian-noise", "max_std", self.max_std, 0, 1)
        check_probability("gaussian-noise", self.p)

    def apply(self, images: Images, keys: random.Keys) -> Images:
        std = np.where(chosen(keys, "gaussian-noise", self.p), between(keys, "gaussian-noise/std", 0, self.max_std), 0)
        noise = random.normal(random.derive(keys, "gaussian-noise/values"), images.shape[1:])
        return images + noise * (255 * std).astype(np.float32)[:, None, None, None]


@register_augmentation("salt-and-pepper", modality="image")
@dataclass(frozen=True)
class SaltAndPepper:
    """Makes up to `max_share` of the pixels white or black, as often one as the other."""

    max_share: float = 0.05
    p: float = 1.0

    def __post_init__(self) -> None:
        check_within("salt-and-pepper", "max_share", self.max_share, 0, 1)
        check_probability("salt-and-pepper", self.p)

    def apply(self, images: Images, keys: random.Keys) -> Images:
        drawn = between(keys, "salt-and-pepper/share", 0, self.max_share)
        share = np.where(chosen(keys, "salt-and-pepper", self.p), drawn, 0)[:, None, None, None]
        places = random.uniform(random.derive(keys, "salt-and-pepper/places"), (*images.shape[1:3], 1))
        salted = np.where(places < share / 2, np.float32(255), images)
        return np.where(places >= 1 - share / 2, np.float32(0), salted)


@register_augmentation("blur", modality="image")
@dataclass(frozen=True)
class Blur:
    """Blurs with a Gaussian of up to `max_sigma` pixels, cut at three deviations of the largest; edges repeat."""

    max_sigma: float = 1.0
    p: float = 0.5

    def __post_init__(self) -> None:
        check_within("blur", "max_sigma", self.max_sigma, 0, 50)
        check_probability("blur", self.p)

    def apply(self, images: Images, keys: random.Keys) -> Images:
        sigma = np.where(chosen(keys, "blur", self.p), between(keys, "blur/sigma", 0, self.max_sigma), 0)
        reach = int(np.ceil(3 * self.max_sigma))
        offsets = np.arange(-reach, reach + 1)
        weights = np.exp(-0.5 * np.square(offsets / np.maximum(sigma, 1e-3)[:, None]))
        weights = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
        return _convolved(_convolved(images, weights, 1), weights, 2)


@register_augmentation("sharpen", modality="image")
@dataclass(frozen=True)
class Sharpen:
    """Moves every pixel away from its neighbourhood's mean by a factor in [1, 1 + max_amount], as Pillow's Sharpness
    with its smoothing of 3 x 3 (centre weight 5 of 13); edges repeat.
    """

    max_amount: float = 1.0
    p: float = 0.5

    def __post_init__(self) -> None:
        check_within("sharpen", "max_amount", self.max_amount, 0, 20)
        check_probability("sharpen", self.p)

    def apply(self, images: Images, keys: random.Keys) -> Images:
        amount = np.where(chosen(keys, "sharpen", self.p), between(keys, "sharpen/amount", 0, self.max_amount), 0)
        padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
        height, width = images.shape[1:3]
        smooth = np.zeros_like(images)
        for place, weight in enumerate(_SHARPEN.tolist()):
            y, x = divmod(place, 3)
            smooth += np.float32(weight) * padded[:, y : y + height, x : x + width]
        return images + (images - smooth) * amount.astype(np.float32)[:, None, None, None]


@register_augmentation("posterize", modality="image")
@dataclass(frozen=True)
class Posterize:
    """Keeps the highest `min_bits` to 8 bits of every value."""

    min_bits: int = 4
    p: float = 0.5

    def __post_init__(self) -> None:
        check_within("posterize", "min_bits", self.min_bits, 1, 8)
        check_probability("posterize", self.p)

    def apply(self, images: Images, keys: random.Keys) -> Images:
        bits = random.integers(random.derive(keys, "posterize/bits"), self.min_bits, 8)
        step = np.exp2(8 - bits).astype(np.float32)[:, None, None, None]
        on = chosen(keys, "posterize", self.p)[:, None, None, None]
        return np.where(on, np.floor(images / step) * step, images)


@register_augmentation("solarize", modality="image")
@dataclass(frozen=True)
class Solarize:
    """Turns values from a threshold in [min_threshold, 255] on into their opposite."""

    min_threshold: float = 128.0
    p: float = 0.5

    def __post_init__(self) -> None:
        check_within("solarize", "min_threshold", self.min_threshold, 0, 255)
        check_probability("solarize", self.p)

    def apply(self, images: Images, keys: random.Keys) -> Images:
        threshold = between(keys, "solarize/threshold", self.min_threshold, 255)
        limit = np.where(chosen(keys, "solarize", self.p), threshold, np.inf).astype(np.float32)[:, None, None, None]
        return np.where(images >= limit, 255 - images, images)


@register_augmentation("erasing", modality="image")
@dataclass(frozen=True)
class RandomErasing:
    """Lays a black patch of `min_area` to `max_area` of the image, its aspect changed by up to `max_ratio`, over it
    (Zhong et al. 2020). Patches come after every other operation.
    """

    min_area: float = 0.02
    max_area: float = 0.33
    max_ratio: float = 3.3
    p: float = 0.5

    def __post_init__(self) -> None:
        check_range("erasing", "area", self.min_area, self.max_area, 0, 1)
        check_within("erasing", "max_ratio", self.max_ratio, 1, 100)
        check_probability("erasing", self.p)

    def cover(self, keys: random.Keys, size: tuple[int, int]) -> NDArray[np.int64]:
        area = between(keys, "erasing/area", self.min_area, self.max_area)
        limit = np.log(self.max_ratio)
        ratio = np.exp(between(keys, "erasing/ratio", -limit, limit))
        on = chosen(keys, "erasing", self.p)
        ends = []
        for axis, length, shares in (("y", size[0], area * ratio), ("x", size[1], area / ratio)):
            side = np.where(on, np.rint(np.minimum(np.sqrt(shares), 1) * length), 0).astype(np.int64)
            start = (random.uniform(random.derive(keys, f"erasing/{axis}")) * (length - side + 1)).astype(np.int64)
            ends.append((start, start + side))
        (y1, y2), (x1, x2) = ends
        return np.stack([y1, x1, y2, x2], axis=1)


def _convolved(images: Images, weights: NDArray[np.float32], axis: int) -> Images:
    """Each sample with weights of its own, (B, K), along an axis."""
    reach = weights.shape[1] // 2
    pad = [(0, 0)] * 4
    pad[axis] = (reach, reach)
    padded = np.pad(images, pad, mode="edge")
    found = np.zeros_like(images)
    for place in range(weights.shape[1]):
        part = (
            padded[:, place : place + images.shape[1]] if axis == 1 else padded[:, :, place : place + images.shape[2]]
        )
        found += weights[:, place, None, None, None] * part
    return found
