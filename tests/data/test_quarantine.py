"""Bad samples are written down once, by whoever, and counted together."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from dlsvc.data.quarantine import BadSample, Quarantine
from dlsvc.errors import DataError


def bad(number: int) -> BadSample:
    return BadSample(number, f"{number}.png", "the file is cut off")


def written(path: Path) -> list[int]:
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


def test_each_is_written_once_and_known_to_who_comes_later(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.jsonl"
    one, two = Quarantine(100, 0.1, path), Quarantine(100, 0.1, path)
    for number in (3, 5, 3):
        one.add(bad(number))
    assert 5 not in two
    two.add(bad(5))
    two.add(bad(7))
    assert 3 in two
    assert written(path) == [3, 5, 7]
    assert Quarantine(100, 0.1, path).samples == {number: bad(number) for number in (3, 5, 7)}


def test_limit_holds_for_what_all_found(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.jsonl"
    one, two = Quarantine(40, 0.1, path), Quarantine(40, 0.1, path)
    for number in range(4):
        (one, two)[number % 2].add(bad(number))
    with pytest.raises(DataError, match=r"5 of 40 samples can't be decoded, more than data.max_bad_fraction = 0.1"):
        two.add(bad(9))
    with pytest.raises(DataError, match="5 of 40"):
        Quarantine(40, 0.1, path)


def test_table_of_reasons_names_twenty() -> None:
    found = Quarantine(100, 0.3)
    for number in range(30):
        found.add(bad(number))
    with pytest.raises(DataError, match="and 11 more") as error:
        found.add(bad(30))
    assert "sample 19  19.png: the file is cut off" in str(error.value)
    assert "sample 20" not in str(error.value)


def test_line_that_a_kill_cut_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.jsonl"
    Quarantine(100, 0.1, path).add(bad(1))
    with path.open("a") as stream:
        stream.write('{"id": 2, "uri": "2.p')
    again = Quarantine(100, 0.1, path)
    again.add(bad(2))
    assert written(path) == [1, 2]


def _add_many(path: Path, first: int) -> None:
    quarantine = Quarantine(10_000, 1, path)
    for number in range(first, first + 60):
        quarantine.add(bad(number))


def test_processes_at_once(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.jsonl"
    context = multiprocessing.get_context("forkserver")
    workers = [context.Process(target=_add_many, args=(path, first)) for first in (0, 30, 0)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(written(path)) == list(range(90))
