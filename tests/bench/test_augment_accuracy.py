"""The table's runs differ in the augmentation alone."""

from __future__ import annotations

import pytest

from tests.bench.augment_accuracy import CASES, _summary


@pytest.mark.parametrize("name", CASES)
def test_both_sides_are_sound_and_differ_in_the_augmentation_alone(name: str) -> None:
    plain, augmented = (CASES[name].spec(3, "test", augmented=which).dump() for which in (False, True))
    assert plain["data"].pop("augment") == []
    assert len(augmented["data"].pop("augment")) >= 1
    assert plain == augmented
    assert plain["seed"] == 3
    assert plain["data"]["limit"] is not None


def test_summary_is_mean_and_deviation() -> None:
    assert _summary([0.5, 0.7]) == "0.6000 ± 0.1414"
    assert _summary([0.5]) == "0.5000"
