"""[R] Search over dotted paths of a train spec: Ray Tune draws and schedules the trials, each trial is an ordinary run."""

from __future__ import annotations

import contextlib
import copy
import itertools
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune as ray_tune

from dlsvc.errors import DlsvcError, RunFailed
from dlsvc.spec.load import parse
from dlsvc.spec.schema import TrainSpec, TuneSpec
from dlsvc.store.home import home as home_of
from dlsvc.store.models import ModelStore
from dlsvc.store.runs import RunStore
from dlsvc.train.cluster import cluster

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
            max_concurrent_trials=concurrent,
            scheduler=_scheduler(spec),
        )
        run_config = ray_tune.RunConfig(name=f"{spec.name}-{int(began * 1000)}", storage_path=str(home / "tune"), verbose=0)
        tuner = ray_tune.Tuner(trainable, param_space=_space(spec), tune_config=settings, run_config=run_config)
        results = tuner.fit()
    rows = [_row(result) for result in results]
    finished = [row for row in rows if row["score"] is not None and row["model"]]
    if not finished:
        reasons = "; ".join(sorted({row["error"] for row in rows if row["error"]}))
        raise RunFailed(f"none of {len(rows)} trials gave a model: {reasons}")
    best = (max if spec.mode == "max" else min)(finished, key=lambda row: row["score"])
    store = ModelStore(home)
    store.alias(best["model"], spec.publish.alias or "best")
    return {"status": "finished", "name": spec.name, "best": best, "trials": rows, "model": best["model"], "seconds": round(time.time() - began, 3)}
