"""Images a second on one thread, ours against what users would pick, in one run: crop and resize, flip, rotation,
colour jitter, erasing, normalisation.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from dlsvc.augment import keys as random
from dlsvc.augment.colour import ColourJitter
from dlsvc.augment.geometry import HorizontalFlip, RandomResizedCrop, Rotation
from dlsvc.augment.pipeline import Pipeline
from dlsvc.augment.pixels import RandomErasing

pytestmark = pytest.mark.bench
SIZES = {28: 512, 64: 256, 224: 32}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def per_second(work: Callable[[], Any], count: int, times: int = 7) -> float:
    work()
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append(count / (time.perf_counter() - began))
    return statistics.median(found)


def ours(images: np.ndarray) -> Callable[[], Any]:
    steps = (RandomResizedCrop(0.3), HorizontalFlip(), Rotation(15), ColourJitter(0.3, 0.3, 0.3, 18), RandomErasing())
    pipeline, ids = Pipeline(steps), np.arange(len(images), dtype=np.int64)
    words = random.sample_keys(0, np.zeros_like(ids), ids)
    return lambda: pipeline.apply_normalised({"image": images}, words, MEAN, STD)


def pillow_chain(images: np.ndarray) -> Callable[[], Any]:
    draws, size = np.random.default_rng(0), images.shape[1]

    def one(array: np.ndarray) -> np.ndarray:
        image = Image.fromarray(array)
        side = int(size * draws.uniform(0.55, 1))
        left, top = draws.integers(0, size - side + 1, 2).tolist()
        image = image.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draws.random() < 0.5 else image
        image = image.rotate(draws.uniform(-15, 15), Image.Resampling.BILINEAR)
        for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = change(image).enhance(draws.uniform(0.7, 1.3))
        hue, saturation, value = image.convert("HSV").split()
        turn = int(draws.integers(-13, 14))
        hue = hue.point(lambda level: (level + turn) % 256)
        pixels = np.asarray(Image.merge("HSV", (hue, saturation, value)).convert("RGB"), np.float32) / 255
        pixels = (pixels - np.asarray(MEAN, np.float32)) / np.asarray(STD, np.float32)
        if draws.random() < 0.5:
            pixels[size // 4 : size // 2, size // 4 : size // 2] = 0
        return pixels.transpose(2, 0, 1)

    return lambda: np.stack([one(image) for image in images])


def albumentations_chain(images: np.ndarray) -> Callable[[], Any]:
    albumentations = pytest.importorskip("albumentations", reason="a peer, and no dependency of ours")
    cv2, size = pytest.importorskip("cv2"), images.shape[1]
    cv2.setNumThreads(1)
    chain = albumentations.Compose(
        [
            albumentations.RandomResizedCrop(size=(size, size), scale=(0.3, 1.0), p=1.0),
            albumentations.HorizontalFlip(p=0.5),
            albumentations.Rotate(limit=15, p=1.0),
            albumentations.ColorJitter(0.3, 0.3, 0.3, 0.05, p=1.0),
            albumentations.CoarseDropout(num_holes_range=(1, 1), p=0.5),
            albumentations.Normalize(MEAN, STD),
        ]
    )
    return lambda: np.stack([chain(image=image)["image"] for image in images]).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("peer", [pillow_chain, albumentations_chain])
@pytest.mark.parametrize("size", SIZES)
def test_images_a_second(size: int, peer: Callable[[np.ndarray], Callable[[], Any]]) -> None:
    count = SIZES[size]
    images = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    mine, theirs = per_second(ours(images), count), per_second(peer(images), count)
    print(f"\n{size} px: {mine:.0f} images/s ours, {theirs:.0f} {peer.__name__}, ratio {mine / theirs:.1f}")
