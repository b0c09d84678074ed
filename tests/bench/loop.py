"""The same training loop without Ray, for torchrun: prints the median step time in milliseconds."""

from __future__ import annotations

import functools
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch.distributed as dist

from dlsvc.data.source import open_source
from dlsvc.spec.load import load_kind, parse
from dlsvc.spec.schema import TrainSpec
from dlsvc.train.feeding import resident
from dlsvc.train.job import Job
from dlsvc.train.loop import Loop
from dlsvc.train.prepare import open_run, prepare_job
from dlsvc.train.worker import work
from tests.train.trials import spec_of

RECIPE = Path(__file__).parents[2] / "jobs/vision/vit-fashion-mnist.yaml"
VIT_STEPS = 100


def time_steps(job: Job) -> None:
    """Write down when each step ended, for the median of the steps between."""
    plain, ends = Loop._after, []

    def after(self: Loop, step: int, start: int) -> None:
        plain(self, step, start)
        ends.append(time.perf_counter())
        if step == self.pace.total and self.engine.place.rank == 0:
            steps = [late - early for early, late in zip(ends[10:], ends[11:], strict=False)]
            job.run.write("steps.json", {"median_ms": 1000 * statistics.median(steps)})

    Loop._after = after


def bench_job(system: str, home: Path, name: str, **changes: Any) -> Job:
    """`lenet5` is the tests' small one, whose steps are short; `vit` is that of its recipe."""
    settings = {"strategy": "ddp", "scaling__workers": 2, "checkpoint__every_steps": 1000, **changes}
    if system == "vit":
        steps = {"steps": VIT_STEPS}
        spec = load_kind(TrainSpec, str(RECIPE), [f"budget={json.dumps(steps)}", "optim.schedule={}"])
        return _prepared(parse({**spec.dump(), **_nested(settings, spec.dump())}), home, name)
    return _prepared(
        spec_of(system, batch__micro_size=32, report__every_steps=10, budget__steps=200, **settings), home, name
    )


def _nested(settings: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path, value in settings.items():
        section, _, field = path.partition("__")
        found[section] = {**body[section], **found.get(section, {}), field: value} if field else value
    return found


def _prepared(spec: Any, home: Path, name: str) -> Job:
    spec, run = open_run(spec, name, home)
    return prepare_job(spec, run, home)


def main() -> None:
    system, home, name = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    dist.init_process_group("gloo")
    if dist.get_rank() == 0:
        bench_job(system, home, name)
    dist.barrier()
    job = bench_job(system, home, name)
    time_steps(job)
    work(job, functools.partial(resident, open_source(job.spec.data, home).table("train")))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
    print(json.dumps({"status": "done"}))
