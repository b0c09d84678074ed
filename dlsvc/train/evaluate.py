"""Evaluation: a task's metrics over a split, exact over uneven shards, on the weights that get published."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dlsvc.data.atom import Arrays, Preprocessing, Rows
from dlsvc.data.splits import Source
from dlsvc.data.tensors import to_tensors
from dlsvc.errors import DataError, UsageError
from dlsvc.nn.device import open_device
from dlsvc.registry import resolve
from dlsvc.spec.data_sections import DataSpec
from dlsvc.spec.sections import EvaluateSpec
from dlsvc.store.bundle import Bundle
from dlsvc.tasks.base import Metrics, Part, Task
from dlsvc.train.fidelity import Fidelity
from dlsvc.train.fitting import batch_keys, lacking

Gather = Callable[[list[Part]], list[list[Part]]]
Look = Callable[[Metrics], None]


def evaluation_batches(
    table: Rows,
    preprocess: Preprocessing,
    batch_size: int,
    *,
    rank: int = 0,
    world_size: int = 1,
    count: int | None = None,
) -> Iterator[tuple[int, Arrays]]:
    """(number, arrays) of this rank's batches of a split, in order, without augmentation; or of `count` samples spread
    over it evenly. Undecodable samples are left out.
    """
    whole = len(table)
    wanted = np.linspace(0, whole, min(count or whole, whole), endpoint=False).astype(np.int64)
    for number in range(rank, -(-len(wanted) // batch_size), world_size):
        ids = wanted[number * batch_size : (number + 1) * batch_size]
        arrays, bad = preprocess.decode(table.rows(ids))
        keep = np.setdiff1d(np.arange(len(ids)), [row.position for row in bad]) if bad else np.arange(len(ids))
        if bad:
            arrays, _ = preprocess.decode(table.rows(ids[keep]))
        if len(keep):
            yield number, {**preprocess.finish(arrays), "id": ids[keep], "key": ids[keep]}


def measure(
    modules: dict[str, nn.Module], task: Task, batches: Iterable[tuple[int, Arrays]], device: torch.device
) -> list[Part]:
    """Each batch's sums by its number, so that they can be merged in one order whoever computed them."""
    parts = []
    with torch.inference_mode():
        for number, arrays in batches:
            metrics = Metrics()
            task.measure(modules, to_tensors(arrays, device), metrics)
            parts.append((number, metrics))
    return parts


def conclude(task: Task, parts: Iterable[Part], look: Look = lambda whole: None) -> dict[str, float]:
    """The metrics of all batches; `look` sees the sums that they come from. Raises DataError when there are none."""
    whole = Metrics.of(parts)
    if not whole.sums and not whole.collected:
        raise DataError("no sample of the split that is to be evaluated could be decoded: there is nothing to measure")
    look(whole)
    return {name: float(value) for name, value in task.compute(whole).items()}


def evaluate_bundle(
    reference: str,
    home: Any,
    *,
    data: str | None = None,
    split: str | None = None,
    features: str | None = None,
    samples: int | None = None,
    confusion: Path | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """`dlsvc evaluate`: a published model on the split that its spec names, or on one of other `data` (name or path).
    With `features`, also how near its samples come to that split in the vectors of another model; with `confusion`,
    which class is taken for which as PNG there.
    """
    from dlsvc.store.models import ModelStore

    bundle = ModelStore(home).open(reference)
    if bundle.config["spec"] is None and data is None:
        raise UsageError(f"{bundle.reference} was imported and has no data of its own; name some with --data")
    if samples and features is None:
        raise UsageError("--samples counts what is compared in the vectors of --features MODEL, which is missing")
    evaluate: dict[str, Any] = {"split": split} if split else {}
    if features is not None:
        if not bundle.task().makes_samples:
            raise UsageError(f"{bundle.reference} makes no samples: its task is {bundle.config['task']['name']}")
        evaluate["fidelity"] = {"features": features, **({"samples": samples} if samples else {})}
    seen: list[Metrics] = []
    model = bundle.model().to(open_device(device))
    found = {"model": bundle.reference, **evaluate_model(bundle, model, home, data, look=seen.append, **evaluate)}
    return found | ({"confusion": _drawn(seen[0], bundle, confusion)} if confusion is not None else {})


def _drawn(seen: Metrics, bundle: Bundle, path: Path) -> str:
    from dlsvc.metrics.classification import draw_confusion

    if "confusion" not in seen.sums:
        raise UsageError(
            f"--confusion is of classes, up to 128 of them, and {bundle.reference} is of task "
            f"{bundle.config['task']['name']} with {len(bundle.classes)}"
        )
    return draw_confusion(seen.sums["confusion"], bundle.classes, path)


def evaluate_model(
    bundle: Bundle,
    model: nn.Module,
    home: Any,
    data: str | None = None,
    *,
    look: Look = lambda whole: None,
    **changed: Any,
) -> dict[str, Any]:
    """A model, perhaps with other weights than the bundle's, on the data of the bundle's spec, whose section `evaluate`
    may be `changed`, or on other data.
    """
    from dlsvc.data.preprocess import Preprocess
    from dlsvc.data.source import open_source
    from dlsvc.spec.load import parse

    preprocess, body = Preprocess.from_json(bundle.preprocess), bundle.config["spec"]
    asked = {**(body["evaluate"] if body else {}), **changed}
    if data is None:
        spec: Any = parse({**body, "evaluate": asked})
        source, evaluate = open_source(spec.data, home, seed=spec.seed), spec.evaluate
    else:
        source, evaluate = open_source(DataSpec(source=data), home), EvaluateSpec.model_validate(asked)
    table = source.table(evaluate.split)
    if data is not None:
        _check_fit(bundle, source, table, preprocess)
    metrics = evaluate_on(table, preprocess, bundle.task(), model, evaluate, Path(home), look=look)
    return {"data": source.name, "split": evaluate.split, "samples": len(table), "metrics": metrics}


def _check_fit(bundle: Bundle, source: Source, table: Rows, preprocess: Preprocessing) -> None:
    """Raises UsageError where data has other classes than a model tells apart, or lacks what its task reads."""
    check_classes(bundle, source)
    task = resolve("task", bundle.config["task"]["name"])
    for keys in lacking(task, batch_keys(table, preprocess)):
        raise UsageError(f"{source.name} has no {' or '.join(keys)}, which task {task.name} reads")


def check_classes(bundle: Bundle, source: Source) -> None:
    """Raises UsageError where data has other classes than a model tells apart. One that tells a class from the rest
    knows it by its place among the data's.
    """
    place = bundle.preprocess["positive"]
    expected, found = bundle.classes, list(source.classes)
    if place is not None:
        expected, found = bundle.classes[1:], found[place : place + 1]
    if not expected or found == expected:
        return
    theirs, ours = (", ".join(several[:6]) or "none" for several in (source.classes, bundle.classes))
    where = "" if place is None else f": class {place} must be {bundle.classes[1]}"
    raise UsageError(f"{source.name} has the classes {theirs}, and {bundle.reference} tells {ours} apart{where}")


def evaluate_on(
    table: Rows,
    preprocess: Preprocessing,
    task: Task,
    model: nn.Module,
    spec: EvaluateSpec,
    home: Path,
    *,
    place: tuple[int, int] = (0, 1),
    gather: Gather = lambda mine: [mine],
    at_end: bool = True,
    look: Look = lambda whole: None,
) -> dict[str, float]:
    """Every metric that a spec's section asks for, of a model in eval mode. Each of several workers gives its `place`
    (rank, how many) and a `gather` that brings their parts together; they all get the same metrics.
    """
    from dlsvc.store.models import ModelStore

    device, modules = next(model.parameters()).device, task.modules(model)
    task.read_tokens = preprocess.read_tokens
    batches = functools.partial(
        evaluation_batches, table, preprocess, spec.batch_size, rank=place[0], world_size=place[1]
    )
    metrics = conclude(task, _flat(gather(measure(modules, task, batches(), device))), look)
    if spec.fidelity is None or not at_end:
        return metrics
    eye = Fidelity.open(ModelStore(home).open(spec.fidelity.features), device, preprocess.classes)
    parts = eye.measure(task, modules, table, batches(count=spec.fidelity.samples))
    return metrics | eye.conclude(_flat(gather(parts)))


def _flat(shares: list[list[Part]]) -> list[Part]:
    return [part for share in shares for part in share]
