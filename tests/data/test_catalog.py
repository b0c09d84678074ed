from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from dlsvc.data import convert
from dlsvc.data.catalog import entries, entry, held_out
from dlsvc.data.source import open_catalog, open_source
from dlsvc.data.table import content_fingerprint
from dlsvc.errors import DataError, NotFound
from dlsvc.spec.schema import DataSpec

# Samples of each class in the training and test splits, as published.
PER_CLASS = {
    "iris": ([40] * 3, [10] * 3),
    "xor": ([2, 2], [2, 2]),
    "digits": (
        [151, 151, 150, 153, 148, 152, 151, 149, 146, 149],
        [27, 31, 27, 30, 33, 30, 30, 30, 28, 31],
    ),
    "mnist": (
        [835, 940, 826, 860, 817, 720, 845, 892, 787, 815],
        [166, 187, 165, 172, 163, 143, 169, 178, 157, 163],
    ),
    "fashion-mnist": ([6000] * 10, [1000] * 10),
    "emoji": (
        [436, 1014, 10, 436, 354, 603, 219, 741, 578, 711],
        [68, 119, 0, 39, 36, 51, 36, 48, 93, 82],
    ),
}


def test_catalog_is_read_without_heavy_imports() -> None:
    code = (
        "import sys, dlsvc.data.catalog as c; c.entries();"
        "sys.exit(any(m in sys.modules for m in ('torch', 'ray', 'sklearn', 'pyarrow')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", list(PER_CLASS))
def test_splits_have_the_published_counts(name: str, data_home: Path) -> None:
    known = entry(name)
    source = open_catalog(known, data_home)
    for split, expected in zip(("train", "test"), PER_CLASS[name], strict=True):
        table = source.table(split)
        columns = table.rows(np.arange(len(table), dtype=np.int64))
        assert len(table) == known.counts[split] == sum(expected)
        assert np.bincount(columns["label"], minlength=known.num_classes).tolist() == expected


@pytest.mark.parametrize("name", ["digits", "mnist", "fashion-mnist", "emoji"])
def test_statistics_of_the_catalog_are_those_of_the_pixels(name: str, data_home: Path) -> None:
    from dlsvc.data.preprocess import build_preprocess

    source = open_catalog(entry(name), data_home)
    table = source.table("train")
    rows = table.rows(np.arange(0, len(table), max(1, len(table) // 3000), dtype=np.int64))
    arrays, bad = build_preprocess(DataSpec(source=name), source).decode(rows)
    assert not bad
    assert arrays["image"].shape[1:] == (source.image_size, source.image_size, source.channels)
    np.testing.assert_allclose(arrays["image"].mean((0, 1, 2)) / 255, source.mean, atol=0.01)
    np.testing.assert_allclose(arrays["image"].std((0, 1, 2)) / 255, source.std, atol=0.01)


@pytest.mark.parametrize("name", ["xor", "digits", "iris"])
def test_fingerprint_is_of_the_content(name: str, data_home: Path) -> None:
    table = open_catalog(entry(name), data_home).table("train")
    rows = table.rows(np.arange(len(table), dtype=np.int64))
    assert table.fingerprint == content_fingerprint(rows)


def test_iris_rows_are_fishers(data_home: Path) -> None:
    table = open_catalog(entry("iris"), data_home).table("train")
    np.testing.assert_allclose(table.rows(np.asarray([0]))["features"], [[5.1, 3.5, 1.4, 0.2]], rtol=1e-6)


def test_emoji_captions_and_their_split(data_home: Path) -> None:
    source = open_catalog(entry("emoji"), data_home)
    texts = {
        split: source.table(split).rows(np.arange(entry("emoji").counts[split]))["text"] for split in ("train", "test")
    }
    styles = Counter(text.split(" emoji of ")[0] for found in texts.values() for text in found)
    assert styles == {"a Google Noto": 1911, "a flat Twitter": 1911, "a 3D rendered": 1852}
    named = {split: {text.split(" emoji of ")[1] for text in found} for split, found in texts.items()}
    assert not named["train"] & named["test"]
    assert "grinning face" in named["train"] | named["test"]


def test_second_pull_reads_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = convert.pull(entry("digits"), tmp_path)
    monkeypatch.setattr(convert, "fetch", lambda *_: pytest.fail("fetched again"))
    assert convert.pull(entry("digits"), tmp_path) == folder
    assert json.loads((folder / "meta.json").read_text())["counts"] == {"train": 1500, "test": 297}


def test_half_written_data_set_is_made_anew(tmp_path: Path) -> None:
    folder = convert.pull(entry("xor"), tmp_path)
    (folder / "meta.json").unlink()
    (folder / "train.parquet").write_bytes(b"half")
    assert len(open_catalog(entry("xor"), tmp_path).table("train")) == 4
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".write-")] == []


def test_many_processes_pull_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from dlsvc.data import convert; from dlsvc.data.catalog import entry;"
        "said = []; convert.pull(entry('digits'), pathlib.Path(sys.argv[1]), said.append); print(len(said))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [int(process.communicate(timeout=120)[0]) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert sorted(said)[:2] == [0, 0], "one converts, the others wait and find it"
    assert sorted(said)[2] > 0


def test_packages_are_pinned() -> None:
    for known in entries().values():
        for package in known.packages:
            assert package.version
            assert package.sha256 or package.members


def test_unknown_name_suggests_the_near_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"did you mean 'mnist'\?.*path"):
        open_source(DataSpec(source="mnits"), tmp_path)


def test_unknown_split_names_those_there(data_home: Path) -> None:
    with pytest.raises(DataError, match="no split 'validation'; known: test, train"):
        open_catalog(entry("xor"), data_home).table("validation")


def test_hold_out_rule_takes_one_in_ten() -> None:
    assert 900 < sum(held_out(str(number)) for number in range(10_000)) < 1100
    assert not held_out("0")
