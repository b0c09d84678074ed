"""Image operations and their pipeline: a sample's result depends on its own key alone, and on nothing that was not
asked for.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlsvc.augment import keys as random
from dlsvc.augment.colour import Brightness, ColourJitter, Contrast, Saturation
from dlsvc.augment.geometry import Crop, HorizontalFlip, RandomResizedCrop, Rotation, Scale, Shear, Shift
from dlsvc.augment.pipeline import Pipeline
from dlsvc.augment.pixels import RandomErasing, SaltAndPepper
from dlsvc.augment.randaugment import RandAugment
from dlsvc.augment.registry import build_augmentations, entries, resolve
from dlsvc.errors import NotFound, UsageError
from dlsvc.spec.data_sections import AugmentSpec

repeatable = settings(deadline=None, derandomize=True, database=None, max_examples=25)
REQUIRED: dict[str, dict[str, Any]] = {"shift": {"max_pixels": 2}}
IMAGE_OPS = sorted(name for name, entry in entries().items() if entry.modality == "image")


def made(name: str, **changes: Any) -> Any:
    return resolve(name).load()(**REQUIRED.get(name, {}), **changes)


def sample(count: int = 16, channels: int = 3, size: tuple[int, int] = (12, 9)) -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(0).integers(0, 256, (count, *size, channels), dtype=np.uint8)
    ids = np.arange(count, dtype=np.int64)
    return images, random.sample_keys(0, np.zeros_like(ids), ids)


def run(operations: Any, images: np.ndarray, keys: np.ndarray) -> np.ndarray:
    found: np.ndarray = Pipeline(tuple(operations)).apply({"image": images}, keys)["image"]
    return found


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", IMAGE_OPS)
def test_result_does_not_depend_on_the_batch(name: str, channels: int) -> None:
    images, keys = sample(channels=channels)
    before = images.copy()
    whole = run([made(name)], images, keys)
    parts = [run([made(name)], images[start : start + 5], keys[start : start + 5]) for start in range(0, 16, 5)]
    assert (whole.dtype, whole.shape) == (images.dtype, images.shape)
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", IMAGE_OPS)
def test_probability_zero_is_the_identity(name: str, channels: int) -> None:
    images, keys = sample(channels=channels)
    np.testing.assert_array_equal(run([made(name, p=0.0)], images, keys), images)


@pytest.mark.parametrize("name", [name for name in IMAGE_OPS if name != "posterize"])
def test_an_operation_does_something(name: str) -> None:
    images, keys = sample()
    assert (run([made(name, p=1.0)], images, keys) != images).any()


@repeatable
@given(
    st.lists(st.sampled_from(IMAGE_OPS), max_size=5),
    st.integers(1, 4),
    st.sampled_from([1, 3]),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
)
def test_any_list_keeps_shape_and_range(names: list[str], count: int, channels: int, size: tuple[int, int]) -> None:
    images, keys = sample(count, channels, size)
    pipeline = Pipeline(tuple(made(name) for name in names))
    assert pipeline.apply({"image": images}, keys)["image"].shape == images.shape
    batch = pipeline.apply_normalised({"image": images}, keys, (0.5,), (0.25,))["image"]
    if names:
        assert (batch.shape, batch.dtype) == ((count, channels, *size), np.float32)
        assert batch.flags.c_contiguous
        assert -2.0001 <= batch.min() <= batch.max() <= 2.0001


@pytest.mark.parametrize("names", [["rotation", "jitter", "erasing"], ["flip", "blur", "erasing"]])
def test_normalised_is_the_bytes_normalised_but_for_rounding(names: list[str]) -> None:
    images, keys = sample()
    pipeline = Pipeline(tuple(made(name) for name in names))
    rounded = pipeline.apply({"image": images}, keys)["image"].transpose(0, 3, 1, 2) / 255
    batch = pipeline.apply_normalised({"image": images}, keys, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))["image"]
    mean, std = (np.asarray(values)[:, None, None] for values in ((0.4, 0.5, 0.6), (0.2, 0.3, 0.4)))
    inside = np.abs(batch - (rounded - mean) / std)
    assert inside.max() <= 0.5 / 255 / 0.2 + 1e-5


def test_without_image_operations_nothing_is_touched() -> None:
    images, keys = sample()
    assert Pipeline().apply_normalised({"image": images}, keys, (0.5,), (0.5,))["image"] is images


def test_list_is_the_chain_but_for_what_is_documented() -> None:
    """Rotated, enlarged and brightened at once, against one after the other, away from edges: interpolating twice
    blurs, so a smooth image agrees within a few levels.
    """
    y, x = np.mgrid[0:48, 0:48]
    images = (127 + 90 * np.sin(x / 6) * np.cos(y / 7))[None, ..., None].repeat(4, 0).astype(np.uint8)
    keys = random.sample_keys(0, np.zeros(4, np.int64), np.arange(4, dtype=np.int64))
    steps = [Rotation(20), Scale(1.1, 1.3), Brightness(0.8, 1.1), Contrast(0.8, 1.2)]
    at_once = run(steps, images, keys).astype(int)
    chained = images
    for place, step in enumerate(steps):
        chained = run([*(Brightness(1, 1),) * place, step], chained, keys)
    assert np.abs(at_once - chained)[:, 12:36, 12:36].max() <= 4


def test_colour_map_is_the_chain_without_geometry() -> None:
    """Colour alone differs from the chain by the chain's own rounding only, where nothing is cut."""
    images = np.random.default_rng(0).integers(90, 160, (8, 10, 10, 3), dtype=np.uint8)
    keys = random.sample_keys(0, np.zeros(8, np.int64), np.arange(8, dtype=np.int64))
    steps = [Brightness(0.9, 1.1), Contrast(0.8, 1.2), Saturation(0.5, 1.5)]
    chained = images
    for place, step in enumerate(steps):
        chained = run([*(Brightness(1, 1),) * place, step], chained, keys)
    assert np.abs(run(steps, images, keys).astype(int) - chained).max() <= 2


def test_shift_moves_by_whole_pixels_and_repeats_the_edge() -> None:
    images, keys = sample(64, 1, (6, 5))
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    for image, found in zip(padded, run([Shift(2)], images, keys), strict=True):
        windows = [image[y : y + 6, x : x + 5] for y in range(5) for x in range(5)]
        assert any(np.array_equal(window, found) for window in windows)


def test_flip_swaps_about_its_share_and_undoes_itself() -> None:
    images, keys = sample(400)
    flipped = run([HorizontalFlip(p=0.25)], images, keys)
    swapped = (flipped == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (swapped ^ (flipped == images).all(axis=(1, 2, 3))).all()
    assert 60 < swapped.sum() < 140
    np.testing.assert_array_equal(run([HorizontalFlip(1.0), HorizontalFlip(1.0)], images, keys), images)


def test_mask_follows_the_geometry_by_the_nearest_pixel() -> None:
    """An image whose values are its mask: where they disagree, the image lies between two ids."""
    mask = np.zeros((8, 24, 24), np.uint8)
    mask[:, 6:18, 4:15] = 200
    _, keys = sample(8)
    pipeline = Pipeline((Rotation(30), Shear(10), Crop(0.7), ColourJitter(p=0.0)))
    found = pipeline.apply({"image": mask[..., None], "mask": mask}, keys)
    assert set(np.unique(found["mask"])) <= {0, 200}
    nearest = np.where(found["image"][..., 0] >= 100, 200, 0)
    assert (nearest == found["mask"]).mean() > 0.98
    assert (found["mask"] != mask).any()


def test_box_follows_the_geometry() -> None:
    """The box around a white patch stays the box around it; one that leaves the image becomes NaN."""
    images = np.zeros((20, 32, 32, 1), np.uint8)
    images[:, 10:21, 12:17] = 255
    boxes = np.tile(np.asarray([[12, 10, 16, 20], [np.nan] * 4], np.float32), (20, 1, 1))
    keys = random.sample_keys(0, np.zeros(20, np.int64), np.arange(20, dtype=np.int64))
    found = Pipeline((HorizontalFlip(), Shift(5), Scale(0.8, 1.2))).apply({"image": images, "boxes": boxes}, keys)
    for image, box in zip(found["image"][..., 0], found["boxes"], strict=True):
        rows, columns = np.nonzero(image > 127)
        seen = [columns.min(), rows.min(), columns.max(), rows.max()]
        assert np.abs(box[0] - seen).max() <= 1.0
        assert np.isnan(box[1]).all()


def test_draws_have_the_asked_ranges() -> None:
    keys = random.sample_keys(0, np.zeros(2000, np.int64), np.arange(2000, dtype=np.int64))
    angles = np.degrees(
        np.arctan2(Rotation(30).matrix(keys, (9, 9))[:, 1, 0], Rotation(30).matrix(keys, (9, 9))[:, 0, 0])
    )
    assert -30 <= angles.min() < -29
    assert 29 < angles.max() <= 30
    assert abs(angles.mean()) < 1
    parts = RandomResizedCrop(0.25, 1.0, 1.0).matrix(keys, (9, 9))
    areas = parts[:, 0, 0] * parts[:, 1, 1]
    assert 0.25 <= areas.min() < 0.26
    assert areas.mean() == pytest.approx(0.625, abs=0.02)
    patches = RandomErasing(0.1, 0.2, 1.0, p=1.0).cover(keys, (100, 100))
    covered = (patches[:, 2] - patches[:, 0]) * (patches[:, 3] - patches[:, 1]) / 1e4
    assert (covered.min() > 0.095, covered.max() < 0.205) == (True, True)
    assert (patches >= 0).all()
    assert (patches <= 100).all()


def test_salt_and_pepper_are_equally_many() -> None:
    images = np.full((1000, 10, 10, 1), 100, np.uint8)
    keys = random.sample_keys(0, np.zeros(1000, np.int64), np.arange(1000, dtype=np.int64))
    found = run([SaltAndPepper(0.2)], images, keys)
    assert set(np.unique(found)) == {0, 100, 255}
    assert (found == 0).mean() == pytest.approx(0.05, abs=0.01)
    assert (found == 255).mean() == pytest.approx(0.05, abs=0.01)


def test_randaugment_draws_from_all_of_its_list() -> None:
    images, keys = sample(200)
    changed = (run([RandAugment(1, 10)], images, keys) != images).any(axis=(1, 2, 3))
    # One in ten draws the operation that does nothing.
    assert 0.75 < changed.mean() < 0.98


def test_entries_build_in_order() -> None:
    asked = [
        AugmentSpec.model_validate({"name": "flip"}),
        AugmentSpec.model_validate({"name": "shift", "max_pixels": 1}),
    ]
    assert build_augmentations(asked) == [HorizontalFlip(), Shift(1)]


def test_every_augmentation_of_the_course_is_there() -> None:
    course = "rotation flip scale translation crop shear brightness contrast saturation jitter gaussian-noise"
    more = "salt-and-pepper blur sharpen erasing mixup cutmix random-resized-crop randaugment"
    assert set(f"{course} {more}".split()) <= set(entries())


@pytest.mark.parametrize("name", IMAGE_OPS)
def test_parameters_are_checked(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name}: p must be in"):
        made(name, p=1.5)
    for field in dataclasses.fields(made(name)):
        if field.name.startswith(("min_", "max_")):
            arguments = {**REQUIRED.get(name, {}), field.name: -1}
            with pytest.raises(UsageError, match=f"{name}: {field.name} must be"):
                resolve(name).load()(**arguments)


def test_unknown_name_is_refused() -> None:
    with pytest.raises(NotFound, match="did you mean 'flip'"):
        resolve("flop")


def test_all_frames_of_a_film_are_changed_alike() -> None:
    films = np.random.default_rng(0).integers(0, 256, (12, 4, 10, 9, 3), np.uint8)
    keys = random.sample_keys(0, np.zeros(12, np.int64), np.arange(12))
    pipeline = Pipeline((HorizontalFlip(), Shift(3), Brightness(), RandomErasing()))
    found = pipeline.apply({"video": films}, keys)["video"]
    assert found.shape == films.shape
    assert found.dtype == np.uint8
    for frame in range(4):
        np.testing.assert_array_equal(found[:, frame], pipeline.apply({"image": films[:, frame]}, keys)["image"])
    changed = (found != films).any((1, 2, 3, 4))
    assert changed.mean() > 0.5
    np.testing.assert_array_equal(pipeline.apply({"video": films[3:4]}, keys[3:4])["video"], found[3:4])
    # The several images of a conversation are as frames.
    np.testing.assert_array_equal(pipeline.apply({"image": films}, keys)["image"], found)
    norm = pipeline.apply_normalised({"image": films}, keys, (0.5,), (0.5,))["image"]
    assert norm.shape == (12, 4, 3, 10, 9)
    np.testing.assert_array_equal(
        norm[:, 1], pipeline.apply_normalised({"image": films[:, 1]}, keys, (0.5,), (0.5,))["image"]
    )
