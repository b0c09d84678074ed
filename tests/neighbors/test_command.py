"""`dlsvc neighbors` over a published model: queries of every kind, pictures, what is kept and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from dlsvc.cli import main
from dlsvc.data.source import open_source
from dlsvc.errors import DataError, UsageError
from dlsvc.neighbors.command import neighbors
from dlsvc.spec.data_sections import DataSpec
from tests.train.trials import spec_of, train_in_group


@pytest.fixture(scope="module")
def digits(home: Path) -> str:
    reference: str = train_in_group(spec_of("lenet5"), home, run_name="near-digits", world_size=1)["model"]
    return reference


@pytest.fixture(scope="module")
def clip(home: Path) -> str:
    spec = spec_of("clip", budget__steps=8)
    reference: str = train_in_group(spec, home, run_name="near-clip", world_size=1)["model"]
    return reference


def run(*arguments: str) -> dict[str, Any]:
    answer = CliRunner().invoke(main, ["neighbors", *arguments, "--json"], catch_exceptions=False)
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found


def test_sample_of_the_split(digits: str, home: Path, tmp_path: Path) -> None:
    found = run(
        digits, "--id", "3", "-k", "5", "--grid", str(tmp_path / "grid.png"), "--map", str(tmp_path / "map.png")
    )
    assert (found["samples"], found["data"], found["split"]) == (1500, "digits", "train")
    ids = [row["id"] for row in found["neighbors"]]
    assert len(set(ids)) == 5
    assert 3 not in ids
    scores = [row["score"] for row in found["neighbors"]]
    assert scores == sorted(scores, reverse=True)
    with Image.open(tmp_path / "grid.png") as grid, Image.open(tmp_path / "map.png") as plane:
        assert grid.size == (6 * 100, 116)
        assert min(plane.size) >= 700


def test_neighbours_of_trained_vectors_are_of_one_class(digits: str) -> None:
    assert run(digits, "--split", "test", "--accuracy", "-k", "5")["knn_accuracy"] > 0.7


def test_image_file_finds_itself(digits: str, home: Path, tmp_path: Path) -> None:
    rows = open_source(DataSpec(source="digits"), home).table("train").rows(np.asarray([7]))
    Image.fromarray(np.asarray(rows["image"][0]).squeeze()).save(tmp_path / "seven.png")
    first = run(digits, "--image", str(tmp_path / "seven.png"), "-k", "1")["neighbors"][0]
    assert (first["id"], first["score"]) == (7, pytest.approx(1, abs=1e-5))


def test_text_finds_images(clip: str) -> None:
    found = run(clip, "--text", "a red heart", "--split", "test", "-k", "3")
    assert found["dimensions"] == 16
    assert all({"id", "score", "label", "text"} <= set(row) for row in found["neighbors"])


def test_index_is_made_once(digits: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(digits, "--id", "0")
    kept = sorted((home / "vectors").glob("*.npz"))
    monkeypatch.setattr("dlsvc.neighbors.index.evaluation_batches", None)
    run(digits, "--id", "1")
    assert sorted((home / "vectors").glob("*.npz")) == kept


def test_other_data_than_its_own(digits: str) -> None:
    found = run(digits, "--data", "mnist", "--split", "test", "--id", "0", "-k", "2")
    assert found["data"] == "mnist"


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"query": {"id": 5000}}, DataError, "sample 5000 is not in the split"),
        ({"query": {"id": 1, "text": "x"}}, UsageError, "one query, not id and text"),
        ({"query": {"text": "x"}}, DataError, "holds text; this model reads image"),
        ({"query": {}, "grid": Path("grid.png")}, UsageError, "--grid draws a query and its neighbours; give a query"),
        ({"query": {"id": 1}, "k": 1500}, UsageError, "k is 1500; there are 1499"),
    ],
)
def test_refused(asked: dict[str, Any], error: type[Exception], message: str, digits: str, home: Path) -> None:
    with pytest.raises(error, match=message):
        neighbors(digits, home, **asked)


def test_grid_of_what_has_no_pictures(home: Path, tmp_path: Path) -> None:
    spec = {
        "model": {"name": "similarity", "args": {"in_features": 4}},
        "data": {"source": "iris"},
        "batch": {"global_size": 30, "micro_size": 30},
        "budget": {"steps": 20},
        "optim": {"lr": 0.05},
    }
    model = train_in_group(spec_of("lenet5", **spec), home, run_name="near-iris", world_size=1)["model"]
    with pytest.raises(UsageError, match="--grid draws images, films"):
        neighbors(model, home, query={"id": 0}, grid=tmp_path / "grid.png")
    found = neighbors(model, home, query={"features": [5.1, 3.5, 1.4, 0.2]}, metric="euclidean", accuracy=True)
    assert {row["label"] for row in found["neighbors"]} == {"setosa"}
    assert found["knn_accuracy"] > 0.7


def test_where_one_class_counts_labels_are_it_and_the_rest(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = {
        "model": {"name": "similarity", "args": {"in_features": 4}},
        "data": {"source": "iris", "positive": "virginica"},
        "batch": {"global_size": 30, "micro_size": 30},
        "budget": {"steps": 2},
    }
    model = train_in_group(spec_of("lenet5", **spec), home, run_name="near-virginica", world_size=1)["model"]
    named: list[tuple[str, ...]] = []
    monkeypatch.setattr("dlsvc.neighbors.command.draw_map", lambda vectors, labels, names, path: named.append(names))
    found = neighbors(model, home, query={"id": 0}, k=119, plane=tmp_path / "map.png")
    assert {row["label"] for row in found["neighbors"]} == {"not virginica", "virginica"}
    assert named == [("not virginica", "virginica")]
