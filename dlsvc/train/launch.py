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
from ray.train.torch import TorchConfig, TorchTrainer

from dlsvc.cluster import cluster, lacking
from dlsvc.data.progress import Say, say, silent
from dlsvc.data.table import ResidentTable
from dlsvc.errors import DlsvcError, RunCancelled, RunFailed, UsageError
from dlsvc.spec.schema import TrainSpec
from dlsvc.store.driver import driving
from dlsvc.store.home import home as home_of
from dlsvc.store.models import ModelStore
from dlsvc.store.runs import CANCELLED, FAILED, FATAL, FINISHED, RUNNING, Run
from dlsvc.train.encode import encode_once
from dlsvc.train.feeding import atom_builder, cursor, resident, training_table
from dlsvc.train.job import Job
from dlsvc.train.prepare import open_run, prepare_job
from dlsvc.train.progress import Progress
from dlsvc.train.promote import promote
from dlsvc.train.report import data_wait, write_report
from dlsvc.train.worker import work

# Logical CPUs for the data pipeline and Ray's own actors, beside the workers'.
SPARE_CPUS = 2


def train(
    spec: TrainSpec, *, run_name: str | None = None, address: str | None = None, show_progress: bool = True
) -> dict[str, Any]:
    """Run a train spec to a published model, resuming where a run of that name stopped. Returns what --json prints."""
    home = home_of(spec.storage)
    spec, run = open_run(spec, run_name, home)
    if run.status()["status"] == FINISHED:
        return _given_back(spec, run, home)
    with driving(run.path):
        return _drive(spec, run, home, address, show_progress=show_progress)


def _given_back(spec: TrainSpec, run: Run, home: Path) -> dict[str, Any]:
    """A finished run's result. Where the spec says now what is to be published otherwise, the alias moves as it would
    have at the end; a name can't, and raises UsageError.
    """
    result, before, now = run.read("result.json"), run.read("spec.json")["publish"], spec.dump()["publish"]
    if now == before:
        return result
    model = result["model"].partition("@")[0]
    if (spec.publish.name or spec.name) != model:
        raise UsageError(f"publish.name: run {run.name} has published {result['model']}; give another --name for that")
    earlier = {name: value for name, value in result.items() if name not in ("promoted", "not_promoted")}
    return {**earlier, **promote(ModelStore(home), result["model"], result["metrics"], spec.publish)}


def _drive(spec: TrainSpec, run: Run, home: Path, address: str | None, *, show_progress: bool) -> dict[str, Any]:
    """Run it to its end, whatever that is, and write down which."""
    began, tell = time.time(), say if show_progress else silent
    # Before anybody may ask this attempt to end.
    (run.path / FATAL).unlink(missing_ok=True)
    (run.path / "CANCEL").unlink(missing_ok=True)
    run.mark(RUNNING)
    try:
        job = prepare_job(spec, run, home, tell)
        with (
            cluster(address, cpus=_cpus(spec)) as may_grow,
            _cancel_on_sigterm(run),
            Progress(run, job.total_steps, show=show_progress),
        ):
            _check_room(spec, may_grow, tell)
            job = encode_once(job, tell)
            outcome = _fit(job)
        return _conclude(job, outcome, time.time() - began)
    except RunCancelled as error:
        run.mark(CANCELLED, str(error))
        raise
    except DlsvcError as error:
        run.mark(FAILED, str(error))
        raise


def _check_room(spec: TrainSpec, may_grow: bool, tell: Say) -> None:
    """Ray waits for what isn't there, without a word. Raises UsageError where it can't come."""
    workers, asked = spec.scaling.workers, spec.scaling.resources
    fewest = workers if isinstance(workers, int) else workers.min
    kind = {f"accelerator_type:{asked.accelerator}": 0.001} if asked.accelerator else {}
    lack = lacking(fewest, asked.as_ray() | kind, ray.cluster_resources())
    if lack is None:
        return
    if not may_grow:
        raise UsageError(f"scaling: {lack} on this machine; ask for less, or give --address of a cluster that has it")
    tell(f"waiting for the cluster to grow: {lack}")


def _fit(job: Job) -> dict[str, Any]:
    """Hand the job to Ray Train and wait. Ray's own checkpoints are not used: a fresh name each time leaves it
    nothing to resume from.
    """
    spec = job.spec
    # Ray may have been imported with its own log settings; its controller's messages go to the run's log.
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    scaling = _scaling(spec)
    failures = FailureConfig(max_failures=spec.scaling.max_failures)
    config = RunConfig(name=uuid.uuid4().hex, storage_path=str(job.run.path / "ray"), failure_config=failures)
    settings: dict[str, Any] = {"train_loop_config": {"job": job}, "scaling_config": scaling, "run_config": config}
    settings["torch_config"] = _group(spec)
    if job.feed == "stream":
        settings |= _stream_settings(job)
    else:
        settings["train_loop_config"]["columns"] = ray.put(training_table(job).arrays())
    try:
        return TorchTrainer(_worker, **settings).fit().return_value or {}
    except TrainingFailedError as error:
        _raise_fatal(job.run)
        raise RunFailed(f"training failed: {error}") from error


def _scaling(spec: TrainSpec) -> ScalingConfig:
    asked, workers = spec.scaling.resources, spec.scaling.workers
    return ScalingConfig(
        num_workers=workers if isinstance(workers, int) else (workers.min, workers.max),
        use_gpu=asked.gpu > 0,
        resources_per_worker=asked.as_ray(),
        accelerator_type=asked.accelerator,
        label_selector=dict(asked.labels) or None,
        elastic_resize_monitor_interval_s=spec.scaling.resize_every_s,
    )


def _group(spec: TrainSpec) -> TorchConfig:
    """How the workers talk: as Ray has it, NCCL between GPUs and Gloo between CPUs; but NCCL refuses workers that share
    a GPU.
    """
    return TorchConfig(backend="gloo" if spec.scaling.resources.gpu < 1 else None)


def _worker(config: dict[str, Any]) -> dict[str, Any]:
    """On a Ray Train worker, in its process group."""
    job: Job = config["job"]
    if job.spec.scaling.resources.gpu:
        # Ray fills GPUs one after the other where workers share them; counting around would spread them otherwise.
        os.environ["LOCAL_RANK"] = str(ray.train.torch.get_device().index)
    if job.feed == "stream":
        from dlsvc.data.feed_stream import stream_feed

        return work(job, lambda job, start, rank, world: stream_feed(ray.train.get_dataset_shard("train"), start))
    table = ResidentTable(ray.get(config["columns"]))
    return work(job, functools.partial(resident, table))


def _stream_settings(job: Job) -> dict[str, Any]:
    from dlsvc.data.feed_stream import PlannedData, StreamSource

    source = StreamSource(
        job.plan,
        job.total_steps,
        functools.partial(atom_builder, job),
        functools.partial(cursor, job),
        job.run.condemn,
        job.spec.data.stream,
    )
    return {"datasets": {"train": ray.data.range(1)}, "dataset_config": PlannedData(source)}


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
        "data_wait": round(data_wait(run), 4),
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
