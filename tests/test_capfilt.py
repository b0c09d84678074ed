from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dlsvc.capfilt import capfilt, swap_texts
from dlsvc.data.codecs import encode_png
from dlsvc.data.source import open_source
from dlsvc.errors import DataError, Refused, UsageError
from dlsvc.spec.data_sections import DataSpec
from tests.serving.conftest import publish

COUNT, SHARE = 60, 0.3


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Sixty pictures of one colour each, whose text is its number; the last ten are the test split."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    rows = [
        {"image": encode_png(np.full((8, 8, 3), number, np.uint8)), "text": f"picture {number}"}
        for number in range(COUNT + 10)
    ]
    pq.write_table(pa.Table.from_pylist(rows[:COUNT]), folder / "train.parquet")
    pq.write_table(pa.Table.from_pylist(rows[COUNT:]), folder / "test.parquet")
    return folder


def _rows(folder: Path, split: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder / f"{split}.parquet").to_pylist()
    return found


def test_swapped_texts_are_others_and_marked(pairs: Path, home: Path, tmp_path: Path) -> None:
    found = swap_texts(str(pairs), tmp_path / "noisy", SHARE, 3, home)
    before, after = _rows(pairs, "train"), _rows(tmp_path / "noisy", "train")
    moved = [old["text"] != new["text"] for old, new in zip(before, after, strict=True)]
    assert moved == [row["swapped"] for row in after]
    assert sum(moved) == found["swapped"] == round(SHARE * COUNT)
    # Moved round among themselves: no text is lost.
    assert sorted(str(row["text"]) for row in after) == sorted(str(row["text"]) for row in before)
    assert [row["text"] for row in _rows(tmp_path / "noisy", "test")] == [row["text"] for row in _rows(pairs, "test")]
    again = swap_texts(str(pairs), tmp_path / "again", SHARE, 3, home)
    assert {**again, "path": ""} == {**found, "path": ""}
    assert _rows(tmp_path / "again", "train") == after
    with pytest.raises(Refused, match="not empty"):
        swap_texts(str(pairs), tmp_path / "noisy", SHARE, 3, home)
    with pytest.raises(UsageError, match=r"--share must be in \[0, 1\]"):
        swap_texts(str(pairs), tmp_path / "more", 1.5, 3, home)


def test_what_the_model_believes_stays(pairs: Path, home: Path, tmp_path: Path) -> None:
    reference = publish("captions", home)
    swap_texts(str(pairs), tmp_path / "noisy", SHARE, 3, home)
    whole = _sifted(reference, tmp_path, 0.0, home)
    assert len(whole) == 2 * COUNT
    middle = float(np.median([row["score"] for row in whole]))
    assert 0 < len(_sifted(reference, tmp_path, middle, home)) < len(whole)
    with pytest.raises(DataError, match="takes nothing in .* for a pair at a threshold of 1"):
        capfilt(reference, str(tmp_path / "noisy"), tmp_path / "none", home, threshold=1.0)


def _sifted(reference: str, tmp_path: Path, threshold: float, home: Path) -> list[dict[str, Any]]:
    """What stays at a threshold; the counts that are told must be those of the rows."""
    target = tmp_path / f"{threshold}"
    found = capfilt(reference, str(tmp_path / "noisy"), target, home, threshold=threshold)
    rows = _rows(target, "train")
    assert all(row["score"] >= threshold for row in rows)
    assert found["train"] == len(rows) == found.get("given_kept", 0) + found.get("written_kept", 0)
    assert found.get("given_kept", 0) + found.get("given_dropped", 0) == COUNT
    judged = [found.get(f"{kind}_{what}", 0) for kind in ("swapped", "true") for what in ("found", "passed")]
    assert sum(judged[:2]) == round(SHARE * COUNT)
    assert sum(judged) == COUNT
    assert json.loads((target / "capfilt.json").read_text())["model"] == reference
    # What it wrote is a data set.
    source = open_source(DataSpec(source=str(target)), home)
    assert len(source.table("train")) == len(rows)
    assert len(source.table("test")) == 10
    return rows


def test_another_kind_of_model_is_refused(pairs: Path, home: Path, tmp_path: Path) -> None:
    reference = publish("iris", home)
    with pytest.raises(UsageError, match="is of task classification; capfilt needs one of bootstrapped"):
        capfilt(reference, str(pairs), tmp_path / "clean", home)
    with pytest.raises(DataError, match="iris has no image column"):
        swap_texts("iris", tmp_path / "noisy", SHARE, 0, home)
