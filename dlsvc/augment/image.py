"""Augmentations of images: (B, H, W, C) uint8 in and out, a batch at once, each sample's draws from its own key."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlsvc.augment import keys as random
from dlsvc.augment.registry import register_augmentation
from dlsvc.errors import UsageError

Images = NDArray[np.uint8]


@register_augmentation("shift", modality="image")
@dataclass(frozen=True)
class Shift:
    """Moves the image by up to `max_pixels` along both axes. What comes into view repeats the image's edge."""

    max_pixels: int
    p: float = 1.0

    def __post_init__(self) -> None:
        if self.max_pixels < 0:
            raise UsageError(f"shift: max_pixels must be at least 0, not {self.max_pixels}")
        _check_probability("shift", self.p)

    def apply(self, images: Images, keys: random.Keys) -> Images:
        moves = random.integers(random.derive(keys, "shift/offset"), -self.max_pixels, self.max_pixels, (2,))  # (B, 2)
        moves = np.where(_chosen(keys, "shift", self.p)[:, None], moves, 0)
        height, width = images.shape[1:3]
        # Clipped indices repeat the edge; a pixel at (y, x) comes from (y - dy, x - dx).
        rows = np.clip(np.arange(height) - moves[:, :1], 0, height - 1)  # (B, H)
        columns = np.clip(np.arange(width) - moves[:, 1:], 0, width - 1)  # (B, W)
        shifted: Images = images[np.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]]
        return shifted


@register_augmentation("flip", modality="image")
@dataclass(frozen=True)
class HorizontalFlip:
    """Swaps left and right with probability `p`."""

    p: float = 0.5

    def __post_init__(self) -> None:
        _check_probability("flip", self.p)

    def apply(self, images: Images, keys: random.Keys) -> Images:
        chosen = _chosen(keys, "flip", self.p)[:, None, None, None]
        flipped: Images = np.where(chosen, images[:, :, ::-1], images)
        return flipped


def _chosen(keys: random.Keys, name: str, p: float) -> NDArray[np.bool_]:
    """Which samples are augmented: (B,)."""
    chosen: NDArray[np.bool_] = random.uniform(random.derive(keys, f"{name}/chosen")) < p
    return chosen


def _check_probability(name: str, p: float) -> None:
    if not 0 <= p <= 1:
        raise UsageError(f"{name}: p must be in [0, 1], not {p}")
