"""The mean of two models, of their weights or their answers: its measured metrics, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from dlsvc.cli import main
from dlsvc.data.codecs import encode_png
from dlsvc.errors import UsageError
from dlsvc.neighbors.command import neighbors
from dlsvc.store.exchange import export_bundle
from dlsvc.store.models import ModelStore
from dlsvc.train.combine import ensemble, mean_weights, soup
from dlsvc.train.evaluate import evaluate_bundle
from serving.predictor import served
from tests.train.trials import spec_of, train_in_group

SHORT = {"budget__steps": 20}


@pytest.fixture(scope="module")
def ingredients(home: Path) -> list[str]:
    """Two runs of other seeds from one beginning."""
    base = train_in_group(spec_of("lenet5", **SHORT), home, run_name="soup-base", world_size=1)["model"]
    return [
        train_in_group(
            spec_of("lenet5", seed=seed, init_from={"*": base}, **SHORT), home, run_name=f"soup-{seed}", world_size=1
        )["model"]
        for seed in (1, 2)
    ]


def test_soup_is_the_mean_and_is_measured(ingredients: list[str], home: Path) -> None:
    answer = CliRunner().invoke(main, ["models", "soup", "soup", *ingredients, "--json"], catch_exceptions=False)
    found = json.loads(answer.stdout.splitlines()[-1])
    store = ModelStore(home)
    one, two, mixed = (store.open(name).weights() for name in (*ingredients, found["model"]))
    for name, value in mixed.items():
        torch.testing.assert_close(value, (one[name] + two[name]) / 2)
    assert found["metrics"] == evaluate_bundle(found["model"], home)["metrics"]
    assert set(found["ingredients"]) == set(ingredients) == set(store.open(found["model"]).lineage["ingredients"])
    assert found["metrics"]["accuracy"] > 0.5
    assert soup("soup", ingredients, home)["model"] == found["model"]


def test_whole_numbers_are_not_averaged() -> None:
    parts = [{"count": torch.tensor(3), "w": torch.tensor([1.0])}, {"count": torch.tensor(8), "w": torch.tensor([2.0])}]
    assert mean_weights(parts) == {"count": torch.tensor(3), "w": torch.tensor([1.5])}


def test_ensemble_answers_with_the_mean_probability(ingredients: list[str], home: Path, tmp_path: Path) -> None:
    """Of models of other architectures too; measured, and asked as any other."""
    wide = spec_of("lenet5", model__args={"image_size": 16, "hidden_dims": [10, 10]}, **SHORT)
    other = train_in_group(wide, home, run_name="ensemble-wide", world_size=1)["model"]
    members = [ingredients[0], other]
    answer = CliRunner().invoke(main, ["models", "ensemble", "both", *members, "--json"], catch_exceptions=False)
    found = json.loads(answer.stdout.splitlines()[-1])
    assert found["metrics"] == evaluate_bundle(found["model"], home)["metrics"]
    assert set(found["ingredients"]) == set(members)
    store = ModelStore(home)
    picture = encode_png(np.random.default_rng(0).integers(0, 256, (16, 16, 1), dtype=np.uint8))
    asked = [{"image": picture}]
    (one,), (two,), (both,) = (served(store.open(name)).predict(asked) for name in (*members, found["model"]))
    np.testing.assert_allclose(both["scores"], (one["scores"] + two["scores"]) / 2, rtol=1e-5)
    with pytest.raises(UsageError, match="doesn't make a vector"):
        neighbors(found["model"], home, query={"id": 0})
    with pytest.raises(UsageError, match="ensemble has no timm directory; it can be exported to: none"):
        export_bundle(store.open(found["model"]), tmp_path / "out", "timm")


def test_a_model_is_measured_on_other_data(ingredients: list[str], home: Path) -> None:
    model = ingredients[0]
    own, other = evaluate_bundle(model, home), evaluate_bundle(model, home, data="digits", split="train")
    assert evaluate_bundle(model, home, data="digits") == own
    assert (other["data"], other["split"], other["samples"]) == ("digits", "train", 1500)
    with pytest.raises(UsageError, match=r"iris has the classes setosa, .*, and .* tells 0, 1, 2, .* apart"):
        evaluate_bundle(model, home, data="iris")


def test_an_ensemble_is_of_one_question(ingredients: list[str], home: Path) -> None:
    others = spec_of("lenet5", data={"source": "digits", "image": {"size": 16, "mean": [0.1]}}, **SHORT)
    other = train_in_group(others, home, run_name="ensemble-others", world_size=1)["model"]
    with pytest.raises(UsageError, match=r"differ in preprocess\.image\.mean .*members answer one question"):
        ensemble("both", [ingredients[0], other], home)
    with pytest.raises(UsageError, match="two models or more"):
        ensemble("both", ingredients[:1], home)


def test_other_models_are_refused(ingredients: list[str], home: Path) -> None:
    wide = spec_of("lenet5", model__args={"image_size": 16, "hidden_dims": [10, 10]}, **SHORT)
    other = train_in_group(wide, home, run_name="soup-wide", world_size=1)["model"]
    with pytest.raises(UsageError, match=r"differ in model\.args\.hidden_dims .*weights of one kind mix"):
        soup("soup", [ingredients[0], other], home)
    with pytest.raises(UsageError, match="two models or more"):
        soup("soup", ingredients[:1], home)
