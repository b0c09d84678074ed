"""Every augmentation against its reference; `python -m tests.augment.references` prints the table."""

from __future__ import annotations

import numpy as np
import pytest

from dlsvc.augment import colour, geometry
from dlsvc.augment.ranges import between
from dlsvc.augment.registry import entries
from tests.augment.references import CASES, SIZE, own


def test_every_augmentation_has_a_reference() -> None:
    assert set(CASES) == set(entries())


@pytest.mark.parametrize("name", CASES)
def test_augmentation_is_its_reference(name: str) -> None:
    assert CASES[name].measure() <= CASES[name].limit


def test_matrices_are_what_their_parameters_say() -> None:
    """The maps themselves, by hand: scipy above was given ours."""
    keys = own(1)
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
    keys = own(4)
    maps = colour.Hue(90).colour(keys, np.zeros((4, 3)))
    np.testing.assert_allclose(colour.mapped(maps, np.full((4, 3), 77.0)), 77.0)
    turned = colour.mapped(maps, np.tile([255.0, 0, 0], (4, 1)))
    angle = np.radians(between(keys, "hue/angle", -90, 90))
    plane = np.asarray([[2, -1, -1], [0, np.sqrt(3), -np.sqrt(3)]]) / np.sqrt(6)
    x, y = plane @ turned.T
    np.testing.assert_allclose(np.arctan2(y, x), angle, atol=1e-12)
