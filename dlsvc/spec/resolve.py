"""What a spec leaves open, settled: task, strategy, the size of an atom; and what makes two specs the same run."""

from __future__ import annotations

from typing import Any

from dlsvc.errors import NotFound
from dlsvc.registry import Entry, entries
from dlsvc.registry import resolve as registered
from dlsvc.spec.arguments import Signature
from dlsvc.spec.schema import BatchSpec, Strategy, TrainSpec, digest

# What decides neither which samples are seen, nor what is computed from them.
_BESIDE_THE_TRAJECTORY = ("name", "strategy", "scaling", "checkpoint", "evaluate", "publish", "report", "storage")


def resolve_micro_size(batch: BatchSpec, max_workers: int) -> int:
    """`auto` as a number: the largest divisor of the global size that gives every one of `max_workers` an atom."""
    if batch.micro_size != "auto":
        return batch.micro_size
    most = max(1, batch.global_size // max_workers)
    return next(size for size in range(most, 0, -1) if batch.global_size % size == 0)


def resolve_strategy(spec: TrainSpec) -> Strategy:
    return spec.strategy or ("ddp" if spec.most_workers() > 1 else "plain")


def task_entry(spec: TrainSpec) -> Entry:
    """The task that a spec names, or its model's own."""
    return registered("task", spec.task.name or registered("model", spec.model.name).options["task"])


def resolve(spec: TrainSpec) -> TrainSpec:
    """The spec with nothing left to decide. Doing it twice changes nothing."""
    micro_size = resolve_micro_size(spec.batch, spec.most_workers())
    model, task = registered("model", spec.model.name), task_entry(spec)
    task_args = signature(task).typed(spec.task.args)
    return spec.model_copy(
        update={
            "model": spec.model.model_copy(update={"args": signature(model).typed(spec.model.args)}),
            "task": spec.task.model_copy(update={"name": task.name, "args": task_args}),
            "batch": spec.batch.model_copy(update={"micro_size": micro_size}),
            "strategy": resolve_strategy(spec),
        }
    )


def complete(spec: TrainSpec) -> TrainSpec:
    """The resolved spec with the defaults of the model's and the task's constructors written out."""
    spec = resolve(spec)
    model, task = registered("model", spec.model.name), task_entry(spec)
    return spec.model_copy(
        update={
            "model": spec.model.model_copy(update={"args": signature(model).complete(spec.model.args)}),
            "task": spec.task.model_copy(update={"args": signature(task).complete(spec.task.args)}),
        }
    )


def identity(spec: TrainSpec) -> str:
    """sha256 over the fields that decide the trajectory: two specs of one identity give the same model."""
    assert spec.batch.micro_size != "auto", "resolve the spec first: the atom decides the trajectory"
    kept: dict[str, Any] = {name: value for name, value in spec.dump().items() if name not in _BESIDE_THE_TRAJECTORY}
    kept["data"] = {name: value for name, value in kept["data"].items() if name not in ("feed", "stream")}
    return digest(kept)


def signature(entry: Entry) -> Signature:
    return Signature(entry.name, entry.arguments, entry.parts)


def known_task(spec: TrainSpec) -> Entry | None:
    """The task, or None where the model or the task isn't known."""
    try:
        return task_entry(spec)
    except NotFound:
        return None


def known_model(spec: TrainSpec) -> Entry | None:
    return entries("model").get(spec.model.name)
