"""Augmentations of images: a sample's result depends on its own key alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlsvc.augment import keys
from dlsvc.augment.image import HorizontalFlip, Shift
from dlsvc.augment.registry import build_augmentations, entries, resolve
from dlsvc.errors import NotFound, UsageError
from dlsvc.spec.sections import AugmentSpec


def sample(count: int = 64, channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(0).integers(0, 256, (count, 6, 5, channels), dtype=np.uint8)
    ids = np.arange(count, dtype=np.int64)
    return images, keys.sample_keys(0, np.zeros_like(ids), ids)


@pytest.mark.parametrize("augmentation", [Shift(2), Shift(3, p=0.5), HorizontalFlip()])
@pytest.mark.parametrize("channels", [1, 3])
def test_result_does_not_depend_on_the_batch(augmentation: Any, channels: int) -> None:
    images, words = sample(channels=channels)
    before = images.copy()
    whole = augmentation.apply(images, words)
    parts = [augmentation.apply(images[start : start + 7], words[start : start + 7]) for start in range(0, 64, 7)]
    assert (whole.dtype, whole.shape) == (images.dtype, images.shape)
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(images, before)


def test_shift_moves_by_whole_pixels_and_repeats_the_edge() -> None:
    images, words = sample()
    shifted = Shift(2).apply(images, words)
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    for image, found in zip(padded, shifted, strict=True):
        windows = [image[y : y + 6, x : x + 5] for y in range(5) for x in range(5)]
        assert any(np.array_equal(window, found) for window in windows)


def test_flip_swaps_about_its_share_of_the_samples() -> None:
    images, words = sample(400)
    flipped = HorizontalFlip(p=0.25).apply(images, words)
    swapped = (flipped == images[:, :, ::-1]).all(axis=(1, 2, 3))
    kept = (flipped == images).all(axis=(1, 2, 3))
    assert (swapped ^ kept).all()
    assert 60 < swapped.sum() < 140


@pytest.mark.parametrize("augmentation", [Shift(0), Shift(2, p=0.0), HorizontalFlip(p=0.0)])
def test_nothing_changes_with_probability_or_distance_zero(augmentation: Any) -> None:
    images, words = sample()
    np.testing.assert_array_equal(augmentation.apply(images, words), images)


def test_entries_build_in_order() -> None:
    asked = [
        AugmentSpec.model_validate({"name": "flip"}),
        AugmentSpec.model_validate({"name": "shift", "max_pixels": 1}),
    ]
    assert build_augmentations(asked) == [HorizontalFlip(), Shift(1)]
    assert set(entries()) >= {"flip", "shift"}


def test_wrong_parameters_and_names_are_refused() -> None:
    with pytest.raises(UsageError, match="p must be in"):
        HorizontalFlip(p=1.5)
    with pytest.raises(UsageError, match="max_pixels must be at least 0"):
        Shift(-1)
    with pytest.raises(NotFound, match="did you mean 'flip'"):
        resolve("flop")
