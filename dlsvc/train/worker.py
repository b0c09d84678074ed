"""One training worker, from a job to a published model, top to bottom. Runs in any process group; Ray is not needed."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from dlsvc import __version__
from dlsvc.data.feed_resident import Round
from dlsvc.data.preprocess import Preprocess
from dlsvc.data.source import open_source
from dlsvc.engine.base import Engine, Phase
from dlsvc.engine.build import build_engine, place_of
from dlsvc.errors import CheckpointError, DlsvcError, RunFailed
from dlsvc.nn.lora import adapt, merged
from dlsvc.optim.build import build_optimizer, freeze
from dlsvc.optim.schedules import build_schedule
from dlsvc.store import checkpoint
from dlsvc.store.bundle import build_model, build_task, ready_model
from dlsvc.store.checkpoint import Found, Reader
from dlsvc.store.models import ModelStore
from dlsvc.store.runs import Run
from dlsvc.tasks.base import Part, Task
from dlsvc.train import saving
from dlsvc.train.evaluate import evaluate_on
from dlsvc.train.initialise import initialise
from dlsvc.train.job import Job
from dlsvc.train.loop import Hooks, Loop, Pace
from dlsvc.train.promote import promote
from dlsvc.train.tracking import Tracker

FeedOf = Callable[[Job, int, int, int], Iterator[Round]]


def work(job: Job, feed_of: FeedOf) -> dict[str, Any]:
    """Train, evaluate and publish. A fault that a restart can't mend is written down, so that workers stop being
    restarted.
    """
    run = job.run
    if run.condemned:
        return {}
    try:
        return Session(job).run(feed_of)
    except DlsvcError as error:
        run.condemn(error)
        raise
    except Exception as error:
        _note(run, error)
        raise


def _note(run: Run, error: Exception) -> None:
    """Write a failure down. The same one twice at the same place of a run that is a function of its spec would come a
    third time: it is beyond mending. What a lost peer or a disk causes is not held against the run.
    """
    rank, fault = int(os.environ.get("RANK", 0)), f"{type(error).__name__}: {error}"
    begun_at = run.read("workers.json").get("start_step")
    record = {"rank": rank, "fault": fault, "begun_at": begun_at}
    earlier = [line for line in run.lines("log.txt") if line.get("rank") == rank][-1:]
    run.append("log.txt", {"time": time.time(), **record, "error": traceback.format_exc()})
    if not _of_others(error) and any(line | record == line for line in earlier):
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{where.filename}:{where.lineno}"
        run.condemn(RunFailed(f"the same failure twice from step {begun_at} on: {fault} ({place}; log.txt has more)"))


def _of_others(error: Exception) -> bool:
    """Whether it may be another process's end, or the machine's, that shows here."""
    files = {frame.filename for frame in traceback.extract_tb(error.__traceback__)}
    heard = any("torch/distributed/" in file or "/deepspeed/comm/" in file for file in files)
    return heard or isinstance(error, OSError | dist.DistError) or "gloo" in str(error)


@dataclass
class Parts:
    """The object graph of a run."""

    model: nn.Module
    task: Task
    modules: Mapping[str, nn.Module]
    engine: Engine


class Session:
    """One life of a worker: from the newest good checkpoint to the end of the budget."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.place = place_of(gpu=job.spec.scaling.resources.gpu > 0)
        self.began = time.time()
        torch.set_num_threads(max(1, int(job.spec.scaling.resources.cpu)))

    def run(self, feed_of: FeedOf) -> dict[str, Any]:
        found = self._agree_on_checkpoint()
        reader = Reader(found) if found else None
        parts = self._build(reader)
        start = found.manifest.step if found else 0
        self._announce(start, found)
        tracker = Tracker.open(self.job.run, is_chief=self.place.rank == 0)
        loop = Loop(parts.engine, parts.task, self.job.plan, self._pace(), self._hooks(parts, tracker))
        self._catch_up(loop, start)
        loop.fit(feed_of(self.job, start, self.place.rank, self.place.world_size), start)
        tracker.close()
        return self._finish(parts)

    def _agree_on_checkpoint(self) -> Found | None:
        """Rank 0 verifies and chooses; weights and position of every rank come from that one manifest."""
        choice: list[Any] = [None]
        if self.place.rank == 0:
            choice[0] = _choose(self.job.run.checkpoints)
        if self.place.world_size > 1:
            dist.broadcast_object_list(choice, src=0)
        if isinstance(choice[0], CheckpointError):
            raise choice[0]
        found: Found | None = choice[0]
        if found is not None and found.manifest.identity != self.job.identity:
            raise CheckpointError(f"{found.path} belongs to another spec than this run's")
        return found

    def _build(self, reader: Reader | None) -> Parts:
        spec = self.job.spec
        torch.manual_seed(spec.seed)
        model = build_model(spec.model.model_dump())
        if reader is None:
            initialise(model, spec.init_from, self.job.home)
        model = self._adapted(model).to(self.place.device)
        task = build_task(spec.task.model_dump())
        modules = task.modules(model)
        # After that, since copies begin as the model is.
        companions = task.companions(model)
        beside = {role: companion.module.to(self.place.device) for role, companion in companions.items()}
        if reader is not None:
            saving.load_weights({**modules, **beside}, reader)
        freeze(model, spec.freeze)
        phases = [self._phase(name, task, modules) for name in task.phases]
        engine = build_engine(
            spec.strategy or "plain",
            modules,
            phases,
            seed=spec.seed,
            place=self.place,
            precision=spec.precision,
            exact=spec.batch.reduce == "exact",
            num_atoms=self.job.plan.num_atoms,
            micro_size=self.job.micro_size,
            companions=companions,
        )
        if reader is not None:
            saving.load_optimizers(engine, reader)
        return Parts(model, task, modules, engine)

    def _adapted(self, model: nn.Module) -> nn.Module:
        """With the low-rank matrices that the spec asks for."""
        if self.job.spec.lora is not None:
            adapt(model, **self.job.spec.lora.model_dump())
        return model

    def _phase(self, name: str, task: Task, modules: Mapping[str, nn.Module]) -> Phase:
        optim = self.job.spec.optim.of_phase(name)
        module = task.trainable(name)
        optimizer = build_optimizer(optim, list(modules[module].named_parameters()))
        schedule = build_schedule(optim.schedule, self.job.total_steps)
        return Phase(name, module, optimizer, schedule, optim.max_grad_norm, optim.ema_decay)

    def _pace(self) -> Pace:
        spec = self.job.spec
        return Pace(
            self.job.total_steps, spec.checkpoint.every_steps, spec.report.every_steps, spec.evaluate.every_steps
        )

    def _hooks(self, parts: Parts, tracker: Tracker) -> Hooks:
        return Hooks(
            save=lambda step: self._save(parts.engine, step),
            evaluate=lambda step: tracker.evaluated(step, self._evaluate(parts, self._committed(), at_end=False)[0]),
            record=lambda record: tracker.trained({**record, "lr": _rates(parts.engine)}),
            is_cancelled=lambda: self.place.rank == 0 and (self.job.run.path / "CANCEL").exists(),
        )

    def _catch_up(self, loop: Loop, step: int) -> None:
        """Measure what an earlier life saved to be measured, if it ended in between."""
        seen = {line["step"] for line in self.job.run.lines("evaluations.jsonl")}
        if step and loop.pace.is_due(step, loop.pace.evaluate) and step not in seen:
            loop.hooks.evaluate(step)

    def _save(self, engine: Engine, step: int) -> None:
        spec = self.job.spec
        samples = step * spec.batch.global_size
        about = {
            "run": self.job.run.name,
            "identity": self.job.identity,
            "strategy": spec.strategy,
            "seed": spec.seed,
            "samples_seen": samples,
        }
        saving.save(engine, self.job.run.checkpoints, step=step, about=about, keep=spec.checkpoint.keep)

    def _announce(self, start: int, found: Found | None) -> None:
        if self.place.rank == 0:
            rejected = list(found.rejected) if found else []
            for reason in rejected:
                print(f"checkpoint passed over: {reason}", file=sys.stderr)
            record = {
                "time": time.time(),
                "world_size": self.place.world_size,
                "start_step": start,
                "rejected": rejected,
                "pid": os.getpid(),
            }
            self.job.run.append("attempts.jsonl", record)
        pids: list[Any] = [None] * self.place.world_size
        if self.place.world_size > 1:
            dist.all_gather_object(pids, os.getpid())
        else:
            pids = [os.getpid()]
        if self.place.rank == 0:
            self.job.run.write("workers.json", {"pids": pids, "start_step": start})

    def _committed(self) -> Reader:
        """The checkpoint just committed, verified once for whoever reads it."""
        found = checkpoint.newest_good(self.job.run.checkpoints)
        assert found is not None, "a checkpoint is committed before it is read back"
        return Reader(found)

    def _whole(self, parts: Parts, reader: Reader, *, averaged: bool) -> dict[str, torch.Tensor]:
        """Its weights under the model's own names, low-rank matrices added to the layers that they adapt."""
        lora, model = self.job.spec.lora, self._adapted(build_model(self.job.spec.model.model_dump()))
        weights = saving.whole_weights(reader, model, parts.task.modules(model), averaged=averaged)
        return weights if lora is None else merged(weights, rank=lora.rank, alpha=lora.alpha)

    def _evaluate(
        self, parts: Parts, reader: Reader, *, at_end: bool
    ) -> tuple[dict[str, float], nn.Module, dict[str, torch.Tensor]]:
        """Metrics of the weights that would be published now, each rank measuring its share of the split."""
        spec = self.job.spec
        weights = self._whole(parts, reader, averaged=True)
        model = ready_model(spec.model.model_dump(), weights).to(self.place.device)
        metrics = evaluate_on(
            open_source(spec.data, Path(self.job.home), seed=spec.seed).table(spec.evaluate.split),
            Preprocess.from_json(self.job.preprocess),
            parts.task,
            model,
            spec.evaluate,
            Path(self.job.home),
            place=(self.place.rank, self.place.world_size),
            gather=self._gather,
            at_end=at_end,
        )
        return metrics, model, weights

    def _gather(self, mine: list[Part]) -> list[list[Part]]:
        shares: list[Any] = [mine]
        if self.place.world_size > 1:
            shares = [None] * self.place.world_size
            dist.all_gather_object(shares, mine)
        return shares

    def _finish(self, parts: Parts) -> dict[str, Any]:
        """Evaluate and publish what the last checkpoint holds."""
        job, spec = self.job, self.job.spec
        reader = self._committed()
        metrics, model, weights = self._evaluate(parts, reader, at_end=True)
        if self.place.rank != 0:
            return {}
        trained = self._whole(parts, reader, averaged=False)
        parameters = saving.parameter_names(model)
        digest = checkpoint.weights_sha256({name: value for name, value in trained.items() if name in parameters})
        lineage = {
            "run": job.run.name,
            "identity": job.identity,
            "data_fingerprint": job.data_fingerprint,
            "weights_sha256": digest,
            "init_from": {glob: str(reference) for glob, reference in spec.init_from.items()},
            "versions": {"dlsvc": __version__, "torch": torch.__version__},
        }
        config = {
            "schema": 1,
            "model": spec.model.model_dump(mode="json"),
            "task": spec.task.model_dump(mode="json"),
            "classes": list(job.classes),
            "spec": json.loads(spec.model_dump_json()),
        }
        documents = {
            "config.json": config,
            "preprocess.json": dict(job.preprocess),
            "metrics.json": metrics,
            "lineage.json": lineage,
        }
        store = ModelStore(Path(job.home))
        reference = store.publish(spec.publish.name or spec.name, weights, documents)
        return {
            "model": reference,
            "metrics": metrics,
            "weights_sha256": digest,
            "steps": job.total_steps,
            **promote(store, reference, metrics, spec.publish),
        }


def _rates(engine: Engine) -> float:
    """The learning rate of the first phase's first group."""
    phase = next(iter(engine.phases.values()))
    return float(phase.optimizer.param_groups[0]["lr"])


def _choose(root: Path) -> Found | CheckpointError | None:
    """The newest good checkpoint; what is newer and bad is set aside, never deleted."""
    root.mkdir(parents=True, exist_ok=True)
    try:
        found = checkpoint.newest_good(root)
    except CheckpointError as error:
        return error
    if found is not None and found.rejected:
        checkpoint.set_aside(root, found)
    return found
