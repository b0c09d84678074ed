"""[R] A run on Ray Train: the one place where spec, data, cluster and workers are put together."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchTrainer

from dlsvc.augment.registry import build_augmentations
from dlsvc.data.atom import AtomBuilder
from dlsvc.data.feed_resident import Round, resident_feed
from dlsvc.data.preprocess import Preprocess, build_preprocess
from dlsvc.data.source import ResidentTable, open_source
from dlsvc.errors import DlsvcError, RunCancelled, RunFailed
from dlsvc.spec.load import identity, resolve
from dlsvc.spec.schema import TrainSpec
from dlsvc.store import checkpoint
from dlsvc.store.home import home as home_of
from dlsvc.store.runs import CANCELLED, FAILED, FINISHED, Run, RunStore
from dlsvc.train.cluster import cluster
from dlsvc.train.job import Job
from dlsvc.train.progress import Progress
from dlsvc.train.report import write_report
from dlsvc.train.worker import FATAL, work

# What fits comfortably beside the model in every worker is kept in memory.
RESIDENT_BYTES = 1 << 30
# Logical CPUs for the data pipeline and Ray's own actors, beside the workers'.
SPARE_CPUS = 2


def train(spec: TrainSpec, *, run_name: str | None = None, address: str | None = None, show_progress: bool = True) -> dict[str, Any]:
    """Run a train spec to a published model, resuming where a run of that name stopped. Returns what `--json` prints."""
    home = home_of(spec.storage)
    spec, run = _open_run(spec, run_name, home)
    if run.status()["status"] == FINISHED:
        return run.read("result.json")
    began = time.time()
    run.mark("running")
    (run.path / FATAL).unlink(missing_ok=True)
    (run.path / "CANCEL").unlink(missing_ok=True)
    try:
        job = _prepare(spec, run, home)
        with cluster(address, cpus=_cpus(spec)), _cancel_on_sigterm(run), Progress(run, job.total_steps, show=show_progress):
            outcome = _fit(job)
        return _conclude(job, outcome, time.time() - began)
    except RunCancelled as error:
        run.mark(CANCELLED, str(error))
        raise
    except DlsvcError as error:
        run.mark(FAILED, str(error))
        raise


def _open_run(spec: TrainSpec, run_name: str | None, home: Path) -> tuple[TrainSpec, Run]:
    """The run that this spec and name mean, and the spec with `auto` settled as when the run began."""
    store = RunStore(home)
    spec = resolve(spec)
    if run_name and store.exists(run_name):
        # `auto` was settled when the run began; another number of workers must not settle it anew.
        kept = store.open(run_name).read("spec.json")["batch"]["micro_size"]
        if spec.batch.micro_size != kept:
            spec = spec.model_copy(update={"batch": spec.batch.model_copy(update={"micro_size": kept})})
    name = run_name or f"{spec.name}-{spec.digest()[:8]}"
    return spec, store.begin(name, spec.dump(), identity(spec))


def _prepare(spec: TrainSpec, run: Run, home: Path) -> Job:
    """What the data is, settled once on the driver."""
    source = open_source(spec.data, home)
    table = source.table("train")
    preprocess = build_preprocess(spec.data, source)
    feed = spec.data.feed if spec.data.feed != "auto" else "resident" if table.nbytes <= RESIDENT_BYTES else "stream"
    return Job(
        spec=spec,
        identity=identity(spec),
        run_path=str(run.path),
        home=str(home),
        preprocess=preprocess.to_json(),
        classes=preprocess.classes,
        num_samples=len(table),
        data_fingerprint=table.fingerprint,
        feed=feed,
    )


def _fit(job: Job) -> dict[str, Any]:
    """Hand the job to Ray Train and wait. Ray's own checkpoints are not used: a fresh name each time leaves it nothing to resume from."""
    spec = job.spec
    # Ray may have been imported with its own log settings; its controller's messages go to the run's log.
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    workers = spec.scaling.workers
    count = workers if isinstance(workers, int) else (workers.min, workers.max)
    scaling = ScalingConfig(num_workers=count, use_gpu=spec.scaling.resources.gpu > 0, resources_per_worker=spec.scaling.resources.as_ray())
    failures = FailureConfig(max_failures=spec.scaling.max_failures)
    config = RunConfig(name=uuid.uuid4().hex, storage_path=str(job.run.path / "ray"), failure_config=failures)
    settings: dict[str, Any] = {"train_loop_config": {"job": job}, "scaling_config": scaling, "run_config": config}
    if job.feed == "stream":
        settings |= _stream_settings(job)
    else:
        settings["train_loop_config"]["columns"] = ray.put(_columns(job))
    try:
        return TorchTrainer(_worker, **settings).fit().return_value or {}
    except TrainingFailedError as error:
        _raise_fatal(job.run)
        raise RunFailed(f"training failed: {error}") from error


def _worker(config: dict[str, Any]) -> dict[str, Any]:
    """On a Ray Train worker, in its process group."""
    job: Job = config["job"]
    if job.feed == "stream":
        from dlsvc.data.feed_stream import stream_feed

        return work(job, lambda job, start, rank, world: stream_feed(ray.train.get_dataset_shard("train"), start))
    table = ResidentTable(ray.get(config["columns"]))
    return work(job, functools.partial(_resident, table))


def _resident(table: ResidentTable, job: Job, start: int, rank: int, world_size: int) -> Iterator[Round]:
    return resident_feed(_builder(job, table), start=start, stop=job.total_steps, rank=rank, world_size=world_size)


def _columns(job: Job) -> dict[str, Any]:
    """The training split's columns, decoded once, for all workers to map."""
    return open_source(job.spec.data, Path(job.home)).table("train").arrays()


def _builder(job: Job, table: Any = None) -> AtomBuilder:
    data = job.spec.data
    table = table if table is not None else open_source(data, Path(job.home)).table("train")
    quarantine = functools.partial(_quarantine, job.run)
    return AtomBuilder(job.plan, table, Preprocess.from_json(job.preprocess), build_augmentations(data.augment), data.max_bad_fraction, quarantine)


def _quarantine(run: Run, bad: Any) -> None:
    run.append("quarantine.jsonl", {"id": bad.id, "uri": bad.uri, "reason": bad.reason})


def _stream_settings(job: Job) -> dict[str, Any]:
    from dlsvc.data.feed_stream import PlannedData, StreamSource

    source = StreamSource(job.plan, job.total_steps, functools.partial(_builder, job), functools.partial(_cursor, job))
    return {"datasets": {"train": ray.data.range(1)}, "dataset_config": PlannedData(source)}


def _cursor(job: Job) -> int:
    """The step at which the pipeline begins: that of the checkpoint which the workers will load."""
    found = checkpoint.newest_good(job.run.checkpoints)
    return found.manifest.step if found else 0


def _raise_fatal(run: Run) -> None:
    """Raise what a worker wrote down as beyond mending."""
    fatal = run.read(FATAL)
    if fatal:
        kind = RunCancelled if fatal["kind"] == "RunCancelled" else RunFailed
        raise kind(fatal["message"])


def _conclude(job: Job, outcome: dict[str, Any], seconds: float) -> dict[str, Any]:
    _raise_fatal(job.run)
    run = job.run
    attempts = run.lines("attempts.jsonl")
    result = {
        "run": run.name,
        "status": FINISHED,
        **outcome,
        "samples_seen": job.total_steps * job.spec.batch.global_size,
        "world_sizes": [attempt["world_size"] for attempt in attempts],
        "restarts": run.restarts(),
        "feed": job.feed,
        "quarantined": len({bad["id"] for bad in run.lines("quarantine.jsonl")}),
        "seconds": round(seconds, 3),
        "path": str(run.path),
    }
    result["report"] = str(write_report(run, result, Path(job.home)))
    run.write("result.json", result)
    run.mark(FINISHED)
    return result


def _cpus(spec: TrainSpec) -> int:
    workers = spec.scaling.workers
    most = workers if isinstance(workers, int) else workers.max
    return int(most * max(1, spec.scaling.resources.cpu)) + SPARE_CPUS


@contextlib.contextmanager
def _cancel_on_sigterm(run: Run) -> Iterator[None]:
    """`runs cancel` and a cluster's stop signal end the run at its next report, after a save."""

    def ask(signum: int, frame: FrameType | None) -> None:
        (run.path / "CANCEL").touch()

    try:
        before = signal.signal(signal.SIGTERM, ask)
    except ValueError:
        # Only the main thread may handle signals; a trial in a thread is stopped by its driver.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


