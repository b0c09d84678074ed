"""Each image operation at a known strength against its reference: Pillow, scipy or numpy. `-s` prints the table of the
largest differences, in levels of 255.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from scipy import ndimage

from dlsvc.augment import colour, geometry, pixels
from dlsvc.augment import keys as random
from dlsvc.augment.pipeline import Pipeline
from dlsvc.augment.ranges import between

SIZE = 40
Pixels = NDArray[Any]
Reference = Callable[[Pixels, random.Keys], Pixels]


def pictures(count: int = 6) -> tuple[Pixels, random.Keys]:
    """Smooth colour images, so that a shift by half a pixel is seen and an edge does not drown it."""
    noise = np.random.default_rng(0).normal(size=(count, SIZE, SIZE, 3))
    smooth = ndimage.gaussian_filter(noise, (0, 2, 2, 0))
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    ids = np.arange(count, dtype=np.int64)
    return (smooth * 255).astype(np.uint8), random.sample_keys(1, np.zeros_like(ids), ids)


def each(change: Callable[[Image.Image, float], Image.Image], stream: str, low: float, high: float) -> Reference:
    """Pillow's operation on each image, at the strength that the sample draws."""

    def reference(images: Pixels, keys: random.Keys) -> Pixels:
        drawn = between(random.derive(keys, "augment/0"), stream, low, high).tolist()
        changed = [change(Image.fromarray(image), value) for image, value in zip(images, drawn, strict=True)]
        return np.stack([np.asarray(image) for image in changed])

    return reference


def affine(a: float, b: float, c: float, d: float) -> Callable[[Image.Image], Image.Image]:
    """Pillow's affine map about the centre."""
    middle = SIZE / 2
    data = (a, b, middle - a * middle - b * middle, c, d, middle - c * middle - d * middle)
    return lambda image: image.transform(image.size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)


def shifted(images: Pixels, keys: random.Keys) -> Pixels:
    stream = random.derive(random.derive(keys, "augment/0"), "shift/offset")
    moves = random.integers(stream, -3, 3, (2,))
    found = [
        ndimage.shift(image, (*move, 0), order=0, mode="nearest") for image, move in zip(images, moves, strict=True)
    ]
    return np.stack(found)


def blurred(images: Pixels, keys: random.Keys) -> Pixels:
    sigma = between(random.derive(keys, "augment/0"), "blur/sigma", 0, 2.0).tolist()
    radius = {"radius": 6, "mode": "nearest"}
    found = [
        ndimage.gaussian_filter(image.astype(np.float64), (s, s, 0), **radius)
        for image, s in zip(images, sigma, strict=True)
    ]
    return np.stack(found)


def translated(image: Image.Image, share: float) -> Image.Image:
    data = (1, 0, -share * SIZE, 0, 1, 0)
    return image.transform(image.size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)


# name: operation, reference, pixels left out at the border (where references fill with black), most levels apart.
CASES: dict[str, tuple[Any, Reference, int, float]] = {
    "shift": (geometry.Shift(3), shifted, 0, 0),
    "flip": (geometry.HorizontalFlip(1.0), lambda images, keys: images[:, :, ::-1], 0, 0),
    "vertical-flip": (geometry.VerticalFlip(1.0), lambda images, keys: images[:, ::-1], 0, 0),
    "rotation": (
        geometry.Rotation(20),
        each(lambda image, angle: image.rotate(angle, Image.Resampling.BILINEAR), "rotation/angle", -20, 20),
        10,
        1,
    ),
    "scale": (
        geometry.Scale(1.0, 1.5),
        each(lambda image, factor: affine(1 / factor, 0, 0, 1 / factor)(image), "scale/factor", 1.0, 1.5),
        2,
        1,
    ),
    "brightness": (
        colour.Brightness(0.5, 1.5),
        each(lambda image, factor: ImageEnhance.Brightness(image).enhance(factor), "brightness/factor", 0.5, 1.5),
        0,
        1,
    ),
    "contrast": (
        colour.Contrast(0.5, 1.5),
        each(lambda image, factor: ImageEnhance.Contrast(image).enhance(factor), "contrast/factor", 0.5, 1.5),
        0,
        1.5,
    ),
    "saturation": (
        colour.Saturation(0.0, 2.0),
        each(lambda image, factor: ImageEnhance.Color(image).enhance(factor), "saturation/factor", 0.0, 2.0),
        0,
        1.5,
    ),
    "sharpen": (
        pixels.Sharpen(2.0, p=1.0),
        each(lambda image, amount: ImageEnhance.Sharpness(image).enhance(1 + amount), "sharpen/amount", 0, 2.0),
        1,
        2,
    ),
    "blur": (pixels.Blur(2.0, p=1.0), blurred, 0, 1),
    "posterize": (
        pixels.Posterize(4, p=1.0),
        lambda images, keys: np.stack(
            [
                np.asarray(ImageOps.posterize(Image.fromarray(image), int(bits)))
                for image, bits in zip(
                    images,
                    random.integers(random.derive(random.derive(keys, "augment/0"), "posterize/bits"), 4, 8),
                    strict=True,
                )
            ]
        ),
        0,
        0,
    ),
    "solarize": (
        pixels.Solarize(100, p=1.0),
        each(lambda image, limit: ImageOps.solarize(image, int(np.ceil(limit))), "solarize/threshold", 100, 255),
        0,
        0,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_operation_is_its_reference(name: str) -> None:
    operation, reference, border, limit = CASES[name]
    images, keys = pictures()
    found = Pipeline((operation,)).apply({"image": images}, keys)["image"].astype(np.float64)
    inner = slice(border, SIZE - border)
    apart = float(np.abs(found - reference(images, keys))[:, inner, inner].max())
    print(f"\n| {name} | largest difference {apart:.2f} of 255 |", end="")
    assert apart <= limit


def test_shear_and_translation_and_crop_are_the_affine_maps_of_scipy() -> None:
    """Through scipy's own interpolation, with matrices that it gets from ours: edges included."""
    images, keys = pictures()
    own = random.derive(keys, "augment/0")
    for operation in (
        geometry.Shear(15),
        geometry.Translation(0.2),
        geometry.Crop(0.5),
        geometry.RandomResizedCrop(0.2),
        geometry.Rotation(40),
        geometry.Scale(0.5, 0.9),
    ):
        found = Pipeline((operation,)).apply({"image": images}, keys)["image"]
        for number, matrix in enumerate(operation.matrix(own, (SIZE, SIZE))):
            rows = matrix[[1, 0]][:, [1, 0, 2]]  # scipy counts (y, x)
            for channel in range(3):
                plane = images[number, ..., channel].astype(np.float64)
                arguments = {"offset": rows[:, 2], "order": 1, "mode": "nearest"}
                expected = ndimage.affine_transform(plane, rows[:, :2], **arguments)
                assert np.abs(found[number, ..., channel] - expected).max() <= 0.51


def test_matrices_are_what_their_parameters_say() -> None:
    """The maps themselves, by hand: scipy above was given ours."""
    _, keys = pictures(1)
    size = (SIZE, SIZE)
    sheared = geometry.Shear(15).matrix(keys, size)[0]
    x, y = (np.tan(np.radians(between(keys, f"shear/{axis}", -15, 15)[0])) for axis in "xy")
    np.testing.assert_allclose(sheared[:2, :2], [[1, x], [y, 1]])
    np.testing.assert_allclose(sheared @ [19.5, 19.5, 1], [19.5, 19.5, 1])
    moved = geometry.Translation(0.2).matrix(keys, size)[0]
    share = between(keys, "translation/x", -0.2, 0.2)[0]
    np.testing.assert_allclose(
        moved @ [5, 5, 1], [5 - share * SIZE, 5 - between(keys, "translation/y", -0.2, 0.2)[0] * SIZE, 1]
    )
    part = geometry.Crop(0.5).matrix(keys, size)[0]
    side = between(keys, "crop/side", 0.5, 1.0)[0]
    corners = part @ np.asarray([[-0.5, -0.5, 1], [SIZE - 0.5, SIZE - 0.5, 1]]).T
    np.testing.assert_allclose(corners[:2, 1] - corners[:2, 0], side * SIZE)
    assert (corners[:2] >= -0.5 - 1e-9).all()
    assert (corners[:2] <= SIZE - 0.5 + 1e-9).all()


def test_hue_keeps_grey_and_turns_colours_by_the_angle() -> None:
    _, keys = pictures(4)
    maps = colour.Hue(90).colour(keys, np.zeros((4, 3)))
    np.testing.assert_allclose(colour.mapped(maps, np.full((4, 3), 77.0)), 77.0)
    turned = colour.mapped(maps, np.tile([255.0, 0, 0], (4, 1)))
    angle = np.radians(between(keys, "hue/angle", -90, 90))
    plane = np.asarray([[2, -1, -1], [0, np.sqrt(3), -np.sqrt(3)]]) / np.sqrt(6)
    x, y = plane @ turned.T
    np.testing.assert_allclose(np.arctan2(y, x), angle, atol=1e-12)
