"""Samples beside real ones in the vectors of a published model: who may be compared, and that nothing but the samples
decides the figures.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from dlsvc.cli import main
from dlsvc.data.preprocess import Preprocess
from dlsvc.data.source import open_source
from dlsvc.errors import NotFound, UsageError
from dlsvc.spec.schema import DataSpec
from dlsvc.store.models import ModelStore
from dlsvc.tasks.base import Batch, Modules, Prediction, Task
from dlsvc.train.evaluate import evaluate_bundle, evaluation_batches
from dlsvc.train.fidelity import Fidelity
from dlsvc.train.needs import settle_needs
from tests.train.trials import spec_of, train_in_group

FIDELITY = ("frechet_distance", "kernel_distance", "precision", "recall")


@pytest.fixture(scope="module")
def eye(home: Path) -> str:
    """What digits look like to a classifier."""
    spec = spec_of("lenet5", budget__steps=60, publish={"name": "fidelity-eye"})
    return str(train_in_group(spec, home, run_name="fidelity-eye", world_size=1)["model"])


def _vae(steps: int, home: Path, eye: str, *, world_size: int = 1) -> dict[str, Any]:
    name = f"fidelity-{steps}-{world_size}"
    evaluate = {"fidelity": {"features": eye, "samples": 100}, "batch_size": 16, "every_steps": 5}
    strategy = "plain" if world_size == 1 else "ddp"
    spec = spec_of("vae", strategy=strategy, budget__steps=steps, evaluate=evaluate, publish={"name": name})
    return train_in_group(spec, home, run_name=name, world_size=world_size)


def test_a_run_measures_its_samples_at_the_end_and_training_helps(home: Path, eye: str) -> None:
    few, many = (_vae(steps, home, eye) for steps in (1, 60))
    assert {*FIDELITY} < {*few["metrics"]}
    assert few["metrics"]["frechet_distance"] > 1.2 * many["metrics"]["frechet_distance"]
    # In the middle of a run only the task's own metrics are taken: samples cost more.
    lines = (home / "runs" / "fidelity-60-1" / "evaluations.jsonl").read_text().splitlines()
    assert lines
    assert not {*FIDELITY} & {*json.loads(lines[0])}


def test_the_same_figures_from_the_bundle_and_by_any_number_of_workers(home: Path, eye: str) -> None:
    alone, both = (_vae(10, home, eye, world_size=workers) for workers in (1, 2))
    assert evaluate_bundle(alone["model"], home)["metrics"] == alone["metrics"]
    command = ["evaluate", both["model"], "--features", eye, "--samples", "100", "--json"]
    answer = CliRunner().invoke(main, command, catch_exceptions=False)
    assert json.loads(answer.stdout.splitlines()[-1])["metrics"] == both["metrics"]


class Echo(Task):
    """Makes what was asked for: the data's own pictures, or those of the sample `shift` places on."""

    def __init__(self, images: np.ndarray, shift: int = 0, *, told: bool = True) -> None:
        self.images, self.shift, self.told = images, shift, told

    @property
    def makes_classes(self) -> bool:
        return self.told

    def predict(self, modules: Modules, batch: Batch) -> list[Prediction]:
        assert "image" not in batch
        return [{"image": self.images[(place + self.shift) % len(self.images)] / 255} for place in batch["id"].tolist()]


def test_a_classifier_reads_what_samples_were_asked_for(home: Path, eye: str) -> None:
    bundle = ModelStore(home).open(eye)
    preprocess = Preprocess.from_json(bundle.preprocess)
    table = open_source(DataSpec(source="digits"), home).table("test")
    images = preprocess.decode(table.rows(np.arange(len(table))))[0]["image"]

    def share(task: Task, classes: tuple[str, ...] = preprocess.classes) -> float | None:
        found = Fidelity.open(bundle, torch.device("cpu"), classes)
        parts = found.measure(task, {}, table, evaluation_batches(table, preprocess, 50, count=200))
        return found.conclude(parts).get("label_accuracy")

    right = share(Echo(images))
    assert right is not None
    assert right == pytest.approx(evaluate_bundle(eye, home)["metrics"]["accuracy"], abs=0.06)
    other = share(Echo(images, shift=1))
    assert other is not None
    assert other < 0.3 < 0.7 < right
    assert share(Echo(images, told=False)) is None
    assert share(Echo(images), ("a", "b")) is None


def test_who_makes_no_samples_is_refused(home: Path, eye: str) -> None:
    with pytest.raises(UsageError, match="makes no samples: its task is classification"):
        evaluate_bundle(eye, home, features=eye)
    with pytest.raises(UsageError, match="--features MODEL, which is missing"):
        evaluate_bundle(eye, home, samples=10)


def test_the_model_that_compares_is_a_need(home: Path) -> None:
    spec = spec_of("vae", evaluate={"fidelity": {"features": "nobody"}})
    with pytest.raises(NotFound, match=r"evaluate\.fidelity: .*nobody.*no recipe publishes it"):
        settle_needs(spec, make=False, address=None)
    assert "nobody" not in ModelStore(home).names()
