"""What a segmentation model must beat, from a data set alone: `python -m tests.tasks.segmentation_floors nuclei`.

`majority` says the most frequent class everywhere. `colour` looks a pixel's colour up: the class most frequent among
the training pixels of that colour (256 levels of grey, or 16 levels a channel), no neighbours read. `colour_balanced`
does the same with each class counted as often as every other.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch
from numpy.typing import NDArray

from dlsvc.data.catalog import entries
from dlsvc.data.codecs import decode_image, decode_mask, resize_pixels
from dlsvc.data.source import open_catalog
from dlsvc.data.splits import Source
from dlsvc.metrics.classification import confusion, intersection_over_union
from dlsvc.store.home import home

Pixels = NDArray[np.int64]


def floors(source: Source) -> dict[str, float]:
    """mIoU on the test split."""
    counts = _table(*_pixels(source, "train"), source)
    test, truth = _pixels(source, "test")
    frequent = counts.sum(0)
    guesses = {
        "majority": np.full_like(truth, frequent.argmax()),
        "colour": counts.argmax(1)[test],
        "colour_balanced": (counts / frequent.clip(min=1)).argmax(1)[test],
    }
    return {name: _miou(truth, guess, len(source.classes)) for name, guess in guesses.items()}


def _pixels(source: Source, split: str) -> tuple[Pixels, Pixels]:
    """Every pixel's colour as one number, and its class."""
    assert source.image_size is not None
    assert source.channels is not None
    table = source.table(split)
    rows = table.rows(np.arange(len(table)))
    images = np.stack([_image(image, source.channels, source.image_size) for image in rows["image"]]).astype(np.int64)
    masks = np.stack([decode_mask(mask, source.image_size) for mask in rows["mask"]]).astype(np.int64)
    colours = images[..., 0] if source.channels == 1 else (images // 16) @ np.array([256, 16, 1])
    return colours.ravel(), masks.ravel()


def _image(image: bytes | NDArray[np.uint8], channels: int, size: int) -> NDArray[np.uint8]:
    if isinstance(image, bytes):
        return decode_image(image, channels, size)
    return resize_pixels(image, channels, size)


def _table(colours: Pixels, classes: Pixels, source: Source) -> Pixels:
    """Pixels by colour and class."""
    num_classes, num_colours = len(source.classes), 256 if source.channels == 1 else 16**3
    counts: Pixels = np.bincount(colours * num_classes + classes, minlength=num_colours * num_classes)
    return counts.reshape(num_colours, num_classes)


def _miou(truth: Pixels, guess: Pixels, num_classes: int) -> float:
    table = confusion(torch.from_numpy(truth), torch.from_numpy(guess), num_classes)
    return float(np.mean(list(intersection_over_union(table.numpy()).values())))


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(name, json.dumps(floors(open_catalog(entries()[name], home(None)))))
