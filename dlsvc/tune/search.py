"""[R] Search over dotted paths of a train spec: Ray Tune draws and schedules the trials, each trial is an ordinary
run.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune as ray_tune

from dlsvc.cluster import cluster
from dlsvc.errors import DlsvcError, RunFailed
from dlsvc.spec.load import parse
from dlsvc.spec.schema import TrainSpec, TuneSpec
from dlsvc.store.home import home as home_of
from dlsvc.store.models import ModelStore
from dlsvc.store.runs import Run
from dlsvc.tune.table import TrialTable

POLL_S = 0.5


def tune(spec: TuneSpec, *, address: str | None = None, show_progress: bool = True) -> dict[str, Any]:
    """Run the trials and publish the best one under an alias. Returns what `--json` prints."""
    base = spec.train_spec()
    home = home_of(base.storage)
    began = time.time()
    width = base.most_workers() * max(1, int(base.scaling.resources.cpu)) + 1
    with cluster(address, cpus=width * (spec.max_concurrent if isinstance(spec.max_concurrent, int) else 2) + 2):
        concurrent = _concurrent(spec, width)
        trainable = ray_tune.with_resources(ray_tune.with_parameters(_trial, spec=spec, home=str(home)), {"CPU": 0.1})
        settings = ray_tune.TuneConfig(
            metric=spec.metric,
            mode=spec.mode,
            num_samples=1 if spec.algorithm == "grid" else spec.trials,
            scheduler=_scheduler(spec),
            search_alg=searcher(spec, concurrent),
        )
        run_config = ray_tune.RunConfig(
            name=f"{spec.name}-{int(began * 1000)}",
            storage_path=str(home / "tune"),
            verbose=0,
            callbacks=[TrialTable(spec.metric, spec.mode, _num_trials(spec), show=show_progress)],
        )
        tuner = ray_tune.Tuner(trainable, param_space=space(spec), tune_config=settings, run_config=run_config)
        results = tuner.fit()
    rows = [{**_row(result), "score": (result.metrics or {}).get(spec.metric)} for result in results]
    finished = [row for row in rows if row["score"] is not None and row["model"]]
    if not finished:
        reasons = "; ".join(sorted({row["error"] for row in rows if row["error"]}))
        raise RunFailed(f"none of {len(rows)} trials gave a model: {reasons}")
    best = (max if spec.mode == "max" else min)(finished, key=lambda row: row["score"])
    ModelStore(home).alias(best["model"], spec.publish.alias)
    return {
        "status": "finished",
        "name": spec.name,
        "best": best,
        "trials": rows,
        "model": best["model"],
        "seconds": round(time.time() - began, 3),
    }


def _trial(config: Mapping[str, Any], *, spec: TuneSpec, home: str) -> None:
    """One trial, as the driver of an ordinary run: reports its evaluations, so that a scheduler may stop it."""
    import threading

    from dlsvc.train.launch import train

    values = {key: value for key, value in config.items() if value is not None}
    trial = ray_tune.get_context().get_trial_id()
    chosen = trial_spec(spec, values)
    outcome: dict[str, Any] = {}

    def drive() -> None:
        try:
            outcome.update(train(chosen, run_name=f"{spec.name[:40]}-{trial}", show_progress=False))
        except DlsvcError as error:
            outcome["error"] = f"{type(error).__name__}: {error}"

    driver = threading.Thread(target=drive, daemon=True)
    driver.start()
    path = Path(home) / "runs" / f"{spec.name[:40]}-{trial}"
    for record in evaluations(path, driver, spec.metric):
        ray_tune.report({spec.metric: record[spec.metric], "step": record["step"], "model": "", "error": ""})
    driver.join()
    score = outcome.get("metrics", {}).get(spec.metric)
    if "error" not in outcome and score is None:
        known = ", ".join(sorted(outcome["metrics"]))
        outcome["error"] = f"the evaluation has no metric {spec.metric!r}; it has {known}"
    worst = float("-inf") if spec.mode == "max" else float("inf")
    facts = {"model": outcome.get("model", ""), "error": outcome.get("error", ""), "run": path.name}
    ray_tune.report({spec.metric: worst if score is None else score, "step": outcome.get("steps", 0), **facts})


def evaluations(path: Path, driver: Any, metric: str) -> Iterator[dict[str, Any]]:
    """Evaluations with the metric as the run writes them, until its driver ends; the last one is reported with the
    model. Those on the way lack what is measured at the end only.
    """
    seen = 0
    while driver.is_alive():
        time.sleep(POLL_S)
        records = Run(path).lines("evaluations.jsonl") if path.exists() else []
        yield from (record for record in records[seen:] if metric in record)
        seen = len(records)


def trial_spec(spec: TuneSpec, values: Mapping[str, Any]) -> TrainSpec:
    """The train spec of one trial: the base with the drawn values at their paths."""
    body = copy.deepcopy(spec.train_spec().dump())
    for path, value in values.items():
        part = body
        *parents, last = path.split(".")
        for parent in parents:
            part = part[parent]
        part[last] = value
    if spec.publish.name:
        body["publish"]["name"] = spec.publish.name
    found = parse(body)
    assert isinstance(found, TrainSpec)
    return found


def space(spec: TuneSpec) -> dict[str, Any]:
    """The search space in Tune's words. A grid needs choices."""
    space: dict[str, Any] = {}
    for path, search in spec.search.items():
        if search.choice is not None:
            values = list(search.choice)
            space[path] = ray_tune.grid_search(values) if spec.algorithm == "grid" else ray_tune.choice(values)
        elif search.uniform is not None:
            space[path] = ray_tune.uniform(*search.uniform)
        elif search.log_uniform is not None:
            space[path] = ray_tune.loguniform(*search.log_uniform)
        elif search.integer is not None:
            space[path] = ray_tune.randint(search.integer[0], search.integer[1] + 1)
    return space


def _num_trials(spec: TuneSpec) -> int:
    if spec.algorithm != "grid":
        return spec.trials
    return math.prod(len(search.choice or ()) for search in spec.search.values())


def searcher(spec: TuneSpec, concurrent: int) -> Any:
    """Draws, or enumerates, from the spec's seed."""
    return ray_tune.search.BasicVariantGenerator(random_state=spec.seed, max_concurrent=concurrent)


def _scheduler(spec: TuneSpec) -> Any:
    """ASHA (Li et al. 2020) over the steps at which trials evaluate, or none."""
    if spec.scheduler == "none":
        return None
    return ray_tune.schedulers.ASHAScheduler(
        time_attr="step", grace_period=spec.grace_steps, reduction_factor=spec.reduction_factor, max_t=10**9
    )


def _concurrent(spec: TuneSpec, width: int) -> int:
    """As many trials at once as the cluster holds workers for: Tune doesn't count the workers of a trial's run."""
    if isinstance(spec.max_concurrent, int):
        return spec.max_concurrent
    return max(1, int(ray.cluster_resources().get("CPU", 1)) // width)


def _row(result: Any) -> dict[str, Any]:
    metrics = result.metrics or {}
    config = dict(result.config or {})
    error = str(result.error) if result.error else metrics.get("error", "")
    return {
        "run": metrics.get("run", ""),
        "model": metrics.get("model", ""),
        "step": metrics.get("step"),
        "config": config,
        "error": error,
    }
