"""A small search on a real cluster: trials are ordinary runs, the best one gets the alias."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from ray import tune as ray_tune

from dlsvc.spec.load import parse
from dlsvc.spec.schema import TuneSpec
from dlsvc.store.models import ModelStore
from dlsvc.store.runs import Run
from dlsvc.tune import search
from dlsvc.tune.search import evaluations, searcher, space, trial_spec, tune
from tests.train.trials import spec_of

_needs_ray = pytest.mark.usefixtures("ray_cluster")


def search_of(**changes: object) -> TuneSpec:
    train = spec_of("lenet5", budget__steps=20, publish__name="tuned-lenet5", scaling__workers=1).dump()
    body = {"kind": "tune", "name": "search", "train": train, "search": {"optim.lr": {"choice": [1e-6, 3e-3]}}}
    found = parse({**body, "algorithm": "grid", **changes})
    assert isinstance(found, TuneSpec)
    return found


@_needs_ray
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


def test_evaluations_that_lack_the_metric_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "POLL_S", 0)
    alive = iter([True, True, False])
    driver = SimpleNamespace(is_alive=lambda: next(alive))
    run = Run(tmp_path)
    run.append("evaluations.jsonl", {"step": 5, "elbo": 1.0})
    run.append("evaluations.jsonl", {"step": 10, "elbo": 1.0, "frechet_distance": 2.0})
    assert [record["step"] for record in evaluations(tmp_path, driver, "frechet_distance")] == [10]


@_needs_ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_asha_stops_trials_that_fall_behind(home: Path) -> None:
    train = spec_of("lenet5", budget__steps=120, publish__name="asha-lenet5", evaluate__every_steps=10).dump()
    changes = {"train": train, "scheduler": "asha", "grace_steps": 10, "reduction_factor": 2, "max_concurrent": 1}
    # The best rate comes first, so that the others find out that they are behind.
    result = tune(search_of(search={"optim.lr": {"choice": [3e-3, 1e-6, 1e-7]}}, **changes), show_progress=False)
    steps = {trial["config"]["optim.lr"]: trial["step"] for trial in result["trials"]}
    assert steps[3e-3] == 120
    assert steps[1e-7] < 120
    assert result["best"]["config"] == {"optim.lr": 3e-3}


@_needs_ray
def test_draws_come_from_the_seed() -> None:
    """Tune's own generator, seeded: the same spec draws the same trials."""
    spec = search_of(algorithm="random", search={"optim.lr": {"log_uniform": [1e-7, 1e-2]}}, trials=4)
    assert _drawn(spec, 1) == _drawn(spec, 1)
    assert _drawn(spec, 1) != _drawn(spec, 2)


def _drawn(spec: TuneSpec, seed: int) -> list[float]:
    ray_tune.register_trainable("any", lambda config: None)
    generator = searcher(spec.model_copy(update={"seed": seed}), spec.trials)
    generator.add_configurations({"drawn": {"run": "any", "num_samples": spec.trials, "config": space(spec)}})
    return [generator.next_trial().config["optim.lr"] for _ in range(spec.trials)]
