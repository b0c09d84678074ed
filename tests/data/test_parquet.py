from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from dlsvc.data import parquet
from dlsvc.data.parquet import StoredReader, parquet_table

RNG = np.random.default_rng(0)


def stored(path: Path, columns: dict[str, object], features: tuple[str, ...] = ()) -> StoredReader:
    parquet.write(path, columns, features)
    return StoredReader.open(path, features)


def test_every_kind_of_column_comes_back(tmp_path: Path) -> None:
    columns = {
        "image": RNG.integers(0, 256, (5, 8, 8, 3), np.uint8),
        "mask": RNG.integers(0, 3, (5, 8, 8), np.uint8),
        "series": RNG.normal(size=(5, 20, 6)).astype(np.float32),
        "audio": [bytes([number]) * number for number in range(5)],
        "label": np.arange(5),
        "text": ["a", "", "ü", "漢字", "e"],
        "features": RNG.normal(size=(5, 2)).astype(np.float32),
    }
    path = tmp_path / "a.parquet"
    table = parquet_table([(path, stored(path, columns, ("x", "y")))], "f")
    ids = np.asarray([4, 0, 4, 1])
    rows = table.rows(ids)
    assert set(rows) == {*columns, "uri"} == set(table.columns)
    for name, column in columns.items():
        expected = column[ids] if isinstance(column, np.ndarray) else [column[place] for place in ids]
        np.testing.assert_array_equal(rows[name], expected)
        if isinstance(column, np.ndarray):
            assert rows[name].dtype == column.dtype
    assert rows["uri"][0].endswith("a.parquet#5")


def test_rows_of_a_later_group_are_its_own(tmp_path: Path) -> None:
    count = 2 * 2048 + 3
    columns = {"series": np.arange(count * 2, dtype=np.float32).reshape(count, 2, 1), "label": np.arange(count)}
    path = tmp_path / "a.parquet"
    table = parquet_table([(path, stored(path, columns))], "f")
    ids = np.asarray([count - 1, 0, 2048])
    np.testing.assert_array_equal(table.rows(ids)["series"], columns["series"][ids])
    assert "uri" not in table.columns, "nothing in it is a file"


def test_large_pictures_are_png_and_small_ones_raw(tmp_path: Path) -> None:
    large = RNG.integers(0, 256, (2, 64, 64, 3), np.uint8)
    reader = stored(tmp_path / "large.parquet", {"image": large})
    images = reader.read(pq.read_table(tmp_path / "large.parquet"))["image"]
    with Image.open(io.BytesIO(images[1])) as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.asarray(image), large[1])
    small = stored(tmp_path / "small.parquet", {"image": large[:, :8, :8, 0]})
    read = small.read(pq.read_table(tmp_path / "small.parquet"))["image"]
    np.testing.assert_array_equal(read, large[:, :8, :8, 0])


def test_other_columns_are_kept_and_not_fed(tmp_path: Path) -> None:
    reader = stored(tmp_path / "a.parquet", {"text": ["a"], "style": ["flat"], "tags": [["x", "y"]]})
    assert reader.columns == ("text",)
    assert pq.read_table(tmp_path / "a.parquet").column("tags").to_pylist() == [["x", "y"]]
