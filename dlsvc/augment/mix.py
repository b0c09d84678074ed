"""Mixtures of two samples and of their labels, after normalisation. Partners are drawn within the global batch by
place, so that neither workers nor atoms matter.

`mix(images, targets, other_images, other_targets, keys)` takes (B, C, H, W) float32 images and (B, K) float32 class
probabilities, twice, and gives both mixed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlsvc.augment import keys as random
from dlsvc.augment.ranges import check_probability, check_within, chosen
from dlsvc.augment.registry import register_augmentation

Images = NDArray[np.float32]
Targets = NDArray[np.float32]
Mixed = tuple[Images, Targets]


@register_augmentation("mixup", modality="mix")
@dataclass(frozen=True)
class Mixup:
    """Adds a share of another sample and of its label, the shares from Beta(alpha, alpha) (Zhang et al. 2018)."""

    alpha: float = 0.2
    p: float = 1.0

    def __post_init__(self) -> None:
        check_within("mixup", "alpha", self.alpha, 0.01, 100)
        check_probability("mixup", self.p)

    def mix(
        self, images: Images, targets: Targets, other_images: Images, other_targets: Targets, keys: random.Keys
    ) -> Mixed:
        share = np.where(chosen(keys, "mixup", self.p), _beta(keys, "mixup/share", self.alpha), 1).astype(np.float32)
        mixed = _blend(share[:, None, None, None], images, other_images)
        return mixed, _blend(share[:, None], targets, other_targets)


@register_augmentation("cutmix", modality="mix")
@dataclass(frozen=True)
class CutMix:
    """Lays a patch of another sample over this one; labels mix by the pixels that each has (Yun et al. 2019)."""

    alpha: float = 1.0
    p: float = 1.0

    def __post_init__(self) -> None:
        check_within("cutmix", "alpha", self.alpha, 0.01, 100)
        check_probability("cutmix", self.p)

    def mix(
        self, images: Images, targets: Targets, other_images: Images, other_targets: Targets, keys: random.Keys
    ) -> Mixed:
        height, width = images.shape[2:]
        side = np.sqrt(1 - np.where(chosen(keys, "cutmix", self.p), _beta(keys, "cutmix/share", self.alpha), 1))
        inside_y, inside_x = (_span(keys, axis, length, side) for axis, length in (("y", height), ("x", width)))
        patch = inside_y[:, :, None] & inside_x[:, None, :]
        kept = (1 - patch.mean(axis=(1, 2))).astype(np.float32)
        return np.where(patch[:, None], other_images, images), _blend(kept[:, None], targets, other_targets)


def partners(seed: int, step: int, global_size: int) -> NDArray[np.int64]:
    """(global_size,): the place in the global batch of each place's partner; never its own where there are two."""
    # The counter's third word keeps these draws apart from those of the plan.
    order = np.random.Generator(np.random.Philox(key=[seed, step], counter=[0, 0, 1, 0])).permutation(global_size)
    found = np.empty(global_size, np.int64)
    found[order] = np.roll(order, -1)
    return found


def _beta(keys: random.Keys, stream: str, alpha: float) -> NDArray[np.float64]:
    """Beta(alpha, alpha) by the inverse of its distribution function: one uniform number a sample."""
    from scipy.special import betaincinv

    found: NDArray[np.float64] = betaincinv(alpha, alpha, random.uniform(random.derive(keys, stream)))
    return found


def _blend(share: NDArray[np.float32], one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    return share * one + (1 - share) * other


def _span(keys: random.Keys, axis: str, length: int, side: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(B, length): which pixels lie in a patch of `side` of the length about a centre anywhere, cut at the edges."""
    centre = random.uniform(random.derive(keys, f"cutmix/{axis}")) * length
    low, high = (np.rint(centre + sign * side * length / 2)[:, None] for sign in (-1, 1))
    pixels = np.arange(length)
    return (pixels >= low) & (pixels < high)
