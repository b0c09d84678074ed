"""A small search on a real cluster: trials are ordinary runs, the best one gets the alias."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlsvc.spec.load import parse
from dlsvc.spec.schema import TuneSpec
from dlsvc.store.models import ModelStore
from dlsvc.tune.search import trial_spec, tune
from tests.train.trials import spec_of

pytestmark = pytest.mark.usefixtures("ray_cluster")


def search_of(**changes: object) -> TuneSpec:
    train = spec_of("lenet5", budget__steps=20, publish__name="tuned-lenet5", scaling__workers=1).dump()
    body = {"kind": "tune", "name": "search", "train": train, "search": {"optim.lr": {"choice": [1e-6, 3e-3]}}}
    found = parse({**body, "algorithm": "grid", **changes})
    assert isinstance(found, TuneSpec)
    return found


def test_grid_finds_the_better_rate_and_names_it(home: Path) -> None:
    result = tune(search_of(), show_progress=False)
    scores = {trial["config"]["optim.lr"]: trial["score"] for trial in result["trials"]}
    assert set(scores) == {1e-6, 3e-3}
    assert result["best"]["config"] == {"optim.lr": 3e-3}
    assert scores[3e-3] > scores[1e-6]
    name, version = ModelStore(home).resolve("tuned-lenet5@best")
    assert f"{name}@{version}" == result["model"]


def test_trial_is_the_base_with_the_drawn_values() -> None:
    found = trial_spec(search_of(), {"optim.lr": 0.5, "batch.global_size": 128})
    assert (found.optim.lr, found.batch.global_size, found.model) == (0.5, 128, search_of().train_spec().model)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_asha_stops_trials_that_fall_behind(home: Path) -> None:
    train = spec_of("lenet5", budget__steps=120, publish__name="asha-lenet5", evaluate__every_steps=10).dump()
    changes = {"train": train, "algorithm": "random", "scheduler": "asha", "grace_steps": 10, "trials": 6}
    result = tune(search_of(search={"optim.lr": {"log_uniform": [1e-7, 1e-2]}}, **changes), show_progress=False)
    steps = sorted(trial["step"] for trial in result["trials"])
    assert steps[0] < 120
    assert steps[-1] == 120
