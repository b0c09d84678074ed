"""Whether an alias moves: by numbers, by what another alias has, and what the run's result says of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dlsvc.spec.sections import PublishSpec
from dlsvc.store.models import ModelStore
from dlsvc.train.promote import promote
from tests.train.trials import spec_of, train_in_group


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path)


def _publish(store: ModelStore, accuracy: float) -> tuple[str, dict[str, float]]:
    metrics = {"accuracy": accuracy, "loss": 1 - accuracy}
    lineage = {"run": str(accuracy), "weights_sha256": str(accuracy), "identity": ""}
    documents = {"config.json": {}, "preprocess.json": {}, "metrics.json": metrics, "lineage.json": lineage}
    return store.publish("judged", {"w": torch.zeros(1)}, documents), metrics


@pytest.mark.parametrize(
    ("asked", "holds"),
    [
        ({"accuracy": ">= 0.9"}, True),
        ({"accuracy": "> 0.9"}, False),
        ({"accuracy": ">=0.9", "loss": "< 1e-3"}, False),
        ({"loss": "<= +.1"}, False),
        ({"loss": "<= 0.2"}, True),
        ({"accuracy": "> nobody"}, True),
    ],
)
def test_the_alias_moves_if_every_condition_holds(store: ModelStore, asked: dict[str, str], holds: bool) -> None:
    reference, metrics = _publish(store, 0.9)
    metrics["loss"] = 0.125
    found = promote(store, reference, metrics, PublishSpec(alias="prod", promote_if=asked))
    assert found["promoted"] is holds
    assert bool(found["not_promoted"]) is not holds
    assert store.aliases("judged") == ({"prod": 1} if holds else {})


def test_a_challenger_must_beat_the_champion(store: ModelStore) -> None:
    rule = PublishSpec(alias="prod", promote_if={"accuracy": "> prod"})
    verdicts = [promote(store, *_publish(store, accuracy), rule) for accuracy in (0.8, 0.7, 0.8, 0.9)]
    assert [verdict["promoted"] for verdict in verdicts] == [True, False, True, True]  # the third is the champion
    assert verdicts[1]["not_promoted"] == ["accuracy is 0.7; asked for > prod, which is 0.8"]
    assert store.resolve("judged@prod") == store.resolve("judged")


def test_what_was_not_measured_does_not_pass(store: ModelStore) -> None:
    reference, metrics = _publish(store, 0.9)
    found = promote(store, reference, metrics, PublishSpec(alias="prod", promote_if={"top5": ">= 0"}))
    assert found["not_promoted"] == ["top5 was not measured; asked for >= 0"]


def test_a_run_tells_the_verdict_and_publishes_anyway(home: Path) -> None:
    body = {"publish": {"name": "gated", "alias": "prod", "promote_if": {"accuracy": ">= 0.999"}}}
    result = train_in_group(spec_of("lenet5", budget__steps=2, **body), home, run_name="gated", world_size=1)
    assert result["model"] == "gated@1"
    assert result["promoted"] is False
    assert "asked for >= 0.999" in result["not_promoted"][0]
    assert ModelStore(home).aliases("gated") == {}
