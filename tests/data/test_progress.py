from __future__ import annotations

import pytest

from dlsvc.data import progress
from dlsvc.data.progress import Tenths, bar, counted


@pytest.mark.parametrize(
    ("done", "shown"),
    [
        (0, "|                    |   0 %"),
        (5, "|##########          |  50 %"),
        (10, "|####################| 100 %"),
        (99, "|####################| 100 %"),
    ],
)
def test_bar(done: int, shown: str) -> None:
    assert bar(done, 10) == shown


def test_each_tenth_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_PATIENCE_S", 0)
    said: list[str] = []
    assert list(counted(range(1000), "converting x", 1000, said.append)) == list(range(1000))
    assert len(said) == 10
    assert said[0] == "converting x |##                  |  10 % 100 of 1,000"


def test_what_is_done_within_a_second_is_passed_over_in_silence() -> None:
    said: list[str] = []
    assert len(list(counted(range(100), "converting x", 100, said.append))) == 100
    assert said == []


def test_unknown_total_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_PATIENCE_S", 0)
    said: list[str] = []
    Tenths("npm: x", 0, said.append).reach(10, "10 bytes")
    assert said == []
