"""The table's runs differ in the augmentation alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.augment_accuracy import CASES, _summary, emoji_words


@pytest.mark.parametrize("name", CASES)
def test_both_sides_are_sound_and_differ_in_the_augmentation_alone(name: str, home: Path) -> None:
    plain, augmented = (CASES[name].spec(3, "test", augmented=which).dump() for which in (False, True))
    assert plain["data"].pop("augment") == []
    assert len(augmented["data"].pop("augment")) >= 1
    assert plain == augmented
    assert plain["seed"] == 3
    assert plain["data"]["limit"] is not None


def test_words_of_emoji_are_held_out_by_emoji(home: Path) -> None:
    made = emoji_words()
    train, test = ((made / f"{split}.jsonl").read_text().splitlines() for split in ("train", "test"))
    assert len(train) + len(test) == 1911
    assert abs(len(train) - len(test)) < 100
    assert len(set(train) & set(test)) < 5


def test_summary_is_mean_and_deviation() -> None:
    assert _summary([0.5, 0.7]) == "0.6000 ± 0.1414"
    assert _summary([0.5]) == "0.5000"
