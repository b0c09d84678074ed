"""Chained runs: parameters from published bundles, some of them frozen, under every way of sharding; and mixed
precision.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from dlsvc.errors import NotFound
from dlsvc.store.models import ModelStore
from dlsvc.train.evaluate import evaluate_bundle
from dlsvc.train.needs import settle_needs
from dlsvc.train.prepare import open_run
from tests.train.trials import spec_of, train_in_group

SHORT: dict[str, Any] = {"budget__steps": 6, "batch__micro_size": 32}


@pytest.fixture(scope="module")
def parent(home: Path) -> str:
    spec = spec_of("vit", **SHORT, strategy="plain", publish__name="parent")
    return str(train_in_group(spec, home, run_name="parent", world_size=1)["model"])


@pytest.fixture(scope="module")
def expected(home: Path, parent: str) -> dict[str, Any]:
    return chained(home, parent, "ddp")


def chained(home: Path, parent: str, strategy: str) -> dict[str, Any]:
    changes = {"init_from": {"blocks.*": parent}, "freeze": ["blocks.0.*"], "seed": 11}
    publish = {"name": f"child-{strategy}"}
    spec = spec_of("vit", **{**SHORT, **changes}, strategy=strategy, scaling__workers=2, publish=publish)
    return train_in_group(spec, home, run_name=f"child-{strategy}", world_size=2)


def test_named_parameters_start_there_and_frozen_ones_stay(home: Path, parent: str, expected: dict[str, Any]) -> None:
    before, after = (ModelStore(home).open(str(name)).weights() for name in (parent, expected["model"]))
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if name.startswith("blocks.0.")} <= same
    assert not {name for name in before if name.startswith("blocks.1.") and name.endswith("weight")} & same


@pytest.mark.parametrize("strategy", ["fsdp", "zero2", "zero3"])
def test_frozen_parameters_agree_under_sharding(
    strategy: str, home: Path, parent: str, expected: dict[str, Any]
) -> None:
    assert chained(home, parent, strategy)["weights_sha256"] == expected["weights_sha256"]


LORA = {"targets": ["blocks.*.attention.*"], "rank": 2, "also": ["head.*"]}


def _adapted(home: Path, parent: str, strategy: str) -> dict[str, Any]:
    changes = {"init_from": {"*": parent}, "lora": LORA, "publish__name": f"lora-{strategy}"}
    spec = spec_of("vit", **SHORT, **changes, strategy=strategy, scaling__workers=2)
    return train_in_group(spec, home, run_name=f"lora-{strategy}", world_size=2)


@pytest.fixture(scope="module")
def adapted(home: Path, parent: str) -> dict[str, Any]:
    return _adapted(home, parent, "ddp")


def test_low_rank_matrices_are_published_within_their_layers(home: Path, parent: str, adapted: dict[str, Any]) -> None:
    """The bundle is of the plain architecture, differs in what was adapted, and is what was evaluated."""
    before, after = (ModelStore(home).open(str(name)).weights() for name in (parent, adapted["model"]))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    wanted = {name for name in before if ".attention." in name and name.endswith("weight")}
    assert changed == wanted | {"head.weight", "head.bias"}
    moved = after["blocks.0.attention.query.weight"] - before["blocks.0.attention.query.weight"]
    assert int(torch.linalg.matrix_rank(moved.double(), tol=1e-6)) == 2
    assert evaluate_bundle(adapted["model"], home)["metrics"] == adapted["metrics"]


@pytest.mark.parametrize("strategy", ["fsdp", pytest.param("zero2", marks=pytest.mark.slow), "zero3"])
def test_low_rank_matrices_agree_under_sharding(
    strategy: str, home: Path, parent: str, adapted: dict[str, Any]
) -> None:
    assert _adapted(home, parent, strategy)["weights_sha256"] == adapted["weights_sha256"]


def test_low_rank_run_goes_on_where_it_was(home: Path, parent: str, adapted: dict[str, Any]) -> None:
    changes = {"init_from": {"*": parent}, "lora": LORA, "checkpoint__every_steps": 2, "publish__name": "lora-resumed"}
    spec = spec_of("vit", **SHORT, **changes, strategy="ddp", scaling__workers=2)
    train_in_group(spec, home, run_name="lora-resumed", world_size=2, stop_after=1)
    result = train_in_group(spec, home, run_name="lora-resumed", world_size=2)
    assert result["weights_sha256"] == adapted["weights_sha256"]


def test_a_run_goes_on_from_the_version_that_it_began_with(home: Path, parent: str) -> None:
    """Though another has been published since: which version it was is part of what the run is a function of."""
    spec = spec_of("vit", **SHORT, init_from={"blocks.*": "parent"})
    begun, run = open_run(spec, "pinned", home)
    assert begun.init_from == run.read("spec.json")["init_from"] == {"blocks.*": parent}
    newer = spec_of("vit", **SHORT, seed=8, strategy="plain", publish__name="parent")
    train_in_group(newer, home, run_name="parent-again", world_size=1)
    assert open_run(spec, "pinned", home)[0].init_from == {"blocks.*": parent}
    assert open_run(spec, "pinned-later", home)[0].init_from == {"blocks.*": "parent@2"}
    with pytest.raises(NotFound, match="no model is called 'orphan'"):
        open_run(spec_of("vit", init_from={"blocks.*": "orphan"}), "pinned-to-none", home)


def test_missing_parent_prints_the_command_that_makes_it() -> None:
    spec = spec_of("lenet5", init_from={"conv1.*": "lenet5-digits@best"})
    with pytest.raises(NotFound, match=r"dlsvc train .*lenet5-digits.yaml.*--with-needs"):
        settle_needs(spec, make=False, address=None)


def test_missing_parent_without_a_recipe_says_so() -> None:
    spec = spec_of("lenet5", init_from={"conv1.*": "nobody"})
    with pytest.raises(NotFound, match="no recipe publishes it"):
        settle_needs(spec, make=True, address=None)


def test_bf16_agrees_over_strategies(home: Path) -> None:
    found = {}
    for strategy in ("ddp", "fsdp"):
        spec = spec_of("vit", **SHORT, strategy=strategy, scaling__workers=2, precision="bf16")
        found[strategy] = train_in_group(spec, home, run_name=f"bf16-{strategy}", world_size=2)
    assert found["ddp"]["weights_sha256"] == found["fsdp"]["weights_sha256"]
    assert found["ddp"]["metrics"]["loss"] < 2.4
