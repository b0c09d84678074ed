"""RandAugment (Cubuk et al. 2020): a few operations of a fixed list, at one strength.

The list is the paper's without equalize and autocontrast, which need the histogram of the finished image; strengths are
uniform up to `magnitude` of ten, as in TrivialAugment (Mueller and Hutter 2021), instead of equal to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsvc.augment import keys as random
from dlsvc.augment.colour import Brightness, Contrast, Maps, Means, Saturation, chain, identity, mapped
from dlsvc.augment.geometry import Matrices, Rotation, Shear, Size, Translation, compose
from dlsvc.augment.pixels import Images, Posterize, Sharpen, Solarize
from dlsvc.augment.ranges import check_probability, check_within, chosen
from dlsvc.augment.registry import register_augmentation


@register_augmentation("randaugment", modality="image")
@dataclass(frozen=True)
class RandAugment:
    """`num_ops` operations of ten, drawn a sample, with strengths up to `magnitude` of 10 (Cubuk et al. 2020)."""

    num_ops: int = 2
    magnitude: float = 9.0
    p: float = 1.0

    def __post_init__(self) -> None:
        check_within("randaugment", "num_ops", self.num_ops, 1, 10)
        check_within("randaugment", "magnitude", self.magnitude, 0, 10)
        check_probability("randaugment", self.p)

    def matrix(self, keys: random.Keys, size: Size) -> Matrices:
        eye = np.eye(3)
        parts = [
            np.where(on[:, None, None], one.matrix(own, size), eye) for one, own, on in self._drawn(keys, "matrix")
        ]
        return compose(parts, len(keys))

    def colour(self, keys: random.Keys, mean: Means) -> Maps:
        whole = same = identity(*mean.shape)
        for one, own, on in self._drawn(keys, "colour"):
            whole = chain(whole, np.where(on[:, None, None], one.colour(own, mapped(whole, mean)), same))
        return whole

    def apply(self, images: Images, keys: random.Keys) -> Images:
        for one, own, on in self._drawn(keys, "apply"):
            if on.any():
                images = images.copy()
                images[on] = one.apply(images[on], own[on])
        return images

    def _drawn(self, keys: random.Keys, method: str) -> list[tuple[Any, random.Keys, NDArray[np.bool_]]]:
        """Each round's operations of a kind, their keys, and which samples drew them."""
        operations, found = _operations(self.magnitude / 10), []
        every = chosen(keys, "randaugment", self.p)
        for turn in range(self.num_ops):
            own = random.derive(keys, f"randaugment/{turn}")
            choice = random.integers(random.derive(own, "choice"), 0, len(operations) - 1)
            for place, one in enumerate(operations):
                if hasattr(one, method):
                    found.append((one, own, every & (choice == place)))
        return found


def _operations(strength: float) -> list[Any]:
    """The list; the first does nothing. Ranges at full strength are the paper's."""
    low, high = 1 - 0.9 * strength, 1 + 0.9 * strength
    return [
        object(),
        Rotation(30 * strength),
        Translation(0.33 * strength),
        Shear(16.7 * strength),
        Brightness(low, high),
        Contrast(low, high),
        Saturation(low, high),
        Sharpen(0.9 * strength, p=1.0),
        Posterize(8 - round(4 * strength), p=1.0),
        Solarize(255 * (1 - strength), p=1.0),
    ]
