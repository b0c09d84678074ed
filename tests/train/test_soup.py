"""The mean of two models: its weights, its measured metrics, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from dlsvc.cli import main
from dlsvc.errors import UsageError
from dlsvc.store.models import ModelStore
from dlsvc.train.evaluate import evaluate_bundle
from dlsvc.train.soup import mean_weights, soup
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


def test_other_models_are_refused(ingredients: list[str], home: Path) -> None:
    wide = spec_of("lenet5", model__args={"image_size": 16, "hidden_dims": [10, 10]}, **SHORT)
    other = train_in_group(wide, home, run_name="soup-wide", world_size=1)["model"]
    with pytest.raises(UsageError, match=r"differ in model\.args\.hidden_dims .*weights of one kind mix"):
        soup("soup", [ingredients[0], other], home)
    with pytest.raises(UsageError, match="two models or more"):
        soup("soup", ingredients[:1], home)
