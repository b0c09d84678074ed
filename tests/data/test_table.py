from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlsvc.data import table as tables
from dlsvc.data.columns import ColumnReader
from dlsvc.data.parquet import parquet_table
from dlsvc.data.table import ResidentTable, Subset, chunks, content_fingerprint, pack

ROWS = 40


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "rows.parquet"
    columns = {
        "image": [bytes([row]) * row for row in range(ROWS)],
        "label": [row % 5 for row in range(ROWS)],
        "text": [f"row \u00e9 {row}" for row in range(ROWS)],
        "x": [row / 2 for row in range(ROWS)],
    }
    pq.write_table(pa.table(columns), path, row_group_size=7)
    return path


def opened(path: Path) -> tables.GroupedTable:
    classes = tuple("01234")
    return parquet_table([(path, ColumnReader(path, "image", "label", "text", ("x",), classes))], "f")


@settings(deadline=None, derandomize=True, database=None, max_examples=50)
@given(ids=st.lists(st.integers(0, ROWS - 1), max_size=30))
def test_rows_come_in_the_order_of_the_ids(path: Path, ids: list[int]) -> None:
    table = opened(path)
    for found in (table.rows(np.asarray(ids, np.int64)), ResidentTable(table.arrays()).rows(np.asarray(ids, np.int64))):
        assert found["image"] == [bytes([row]) * row for row in ids]
        assert found["label"].tolist() == [row % 5 for row in ids]
        assert found["text"] == [f"row \u00e9 {row}" for row in ids]
        assert found["features"].tolist() == [[row / 2] for row in ids]
        assert found["uri"] == [f"{path}#{row + 1}" for row in ids]


def test_groups_used_last_stay_at_hand(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "CACHE_BYTES", 0)
    loads = []
    found = opened(path)
    for place, group in enumerate(found._groups):
        load = group.load
        found._groups[place] = tables.Group(group.num_rows, group.nbytes, lambda load=load: loads.append(1) or load())
    for ids in ([0, 1], [2, 3], [8], [0]):
        found.rows(np.asarray(ids))
    assert len(loads) == 3


def test_arrays_are_only_arrays(path: Path) -> None:
    arrays = opened(path).arrays()
    assert all(isinstance(array, np.ndarray) and array.dtype != object for array in arrays.values())
    assert len(ResidentTable(arrays)) == ROWS
    assert ResidentTable(arrays).arrays().keys() == arrays.keys()


def test_subset_is_a_table_of_its_own(path: Path) -> None:
    table = opened(path)
    subset = Subset(table, np.asarray([9, 3, 5]))
    assert len(subset) == 3
    assert subset.rows(np.asarray([2, 0]))["label"].tolist() == [0, 4]
    assert subset.fingerprint not in (table.fingerprint, Subset(table, np.asarray([9, 3, 6])).fingerprint)


def test_fingerprint_sees_names_types_shapes_and_bytes() -> None:
    columns = {"a": np.zeros((2, 3), np.float32), "b": ["x", "yz"]}
    variants = [
        columns,
        {**columns, "c": np.zeros(2)},
        {**columns, "a": np.zeros((3, 2), np.float32)},
        {**columns, "a": np.zeros((2, 3), np.int32)},
        {**columns, "b": ["xy", "z"]},
    ]
    assert len({content_fingerprint(variant) for variant in variants}) == len(variants)
    assert content_fingerprint(columns) == ResidentTable(pack(columns)).fingerprint


def test_chunks_cover_every_id() -> None:
    assert [part.tolist() for part in chunks(7, 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert chunks(0, 3) == []
