"""Evaluation where there is nothing to add, in a run that is cut short, and on data that isn't what the model knows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dlsvc.data.image_input import ImageInput
from dlsvc.data.preprocess import Preprocess
from dlsvc.data.source import open_source
from dlsvc.errors import DataError, UsageError
from dlsvc.spec.data_sections import DataSpec
from dlsvc.store.runs import RunStore
from dlsvc.tasks.base import Metrics
from dlsvc.tasks.classification import Classification
from dlsvc.train import evaluate
from dlsvc.train.evaluate import conclude, evaluate_bundle
from tests.train.trials import spec_of, train_in_group


def test_a_split_of_which_nothing_can_be_decoded_is_told() -> None:
    for parts in ([], [(0, Metrics())]):
        with pytest.raises(DataError, match="no sample of the split .* could be decoded"):
            conclude(Classification(), parts)


def test_a_run_cut_short_before_an_evaluation_has_the_records_of_one_left_alone(home: Path) -> None:
    """What is saved to be evaluated is recorded first, and evaluated by the next life if this one ends in between."""
    spec = spec_of("lenet5", budget__steps=12, evaluate__every_steps=4, report__every_steps=5)
    train_in_group(spec, home, run_name="evaluated", world_size=1)
    train_in_group(spec, home, run_name="evaluated-late", world_size=1, stop_after=2)
    train_in_group(spec, home, run_name="evaluated-late", world_size=1)
    one, other = (RunStore(home).open(name) for name in ("evaluated", "evaluated-late"))
    assert other.restarts() == 1
    assert one.lines("evaluations.jsonl") == other.lines("evaluations.jsonl")
    told = [
        [(line["first_step"], line["step"], line["loss"], line["fingerprint"]) for line in run.trajectory()]
        for run in (one, other)
    ]
    spans = [[place for line in lines for place in range(line[0], line[1])] for lines in told]
    assert spans == [list(range(12))] * 2


def test_what_tells_a_class_from_the_rest_is_measured_where_the_data_has_it(home: Path) -> None:
    """The data's classes are three, and the model's two."""
    model = train_in_group(spec_of("perceptron"), home, run_name="evaluate-setosa", world_size=1)["model"]
    assert evaluate_bundle(model, home, data="iris") == evaluate_bundle(model, home)
    with pytest.raises(UsageError, match="digits has the classes 0, 1, .* not setosa, setosa apart: class 0 must be"):
        evaluate_bundle(model, home, data="digits")


def test_data_that_lacks_what_the_task_reads_is_told_whatever_its_first_row_holds(home: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"no image"] * 4}), tmp_path / "train.parquet")
    source = open_source(DataSpec(source=str(tmp_path)), home)
    bundle: Any = SimpleNamespace(
        classes=[], preprocess={"positive": None}, reference="m@1", config={"task": {"name": "classification"}}
    )
    preprocess = Preprocess(image=ImageInput(8, 1, (0.5,), (0.5,)))
    with pytest.raises(UsageError, match="has no label, which task classification reads"):
        evaluate._check_fit(bundle, source, source.table("train"), preprocess)
