"""Evaluation: a task's metrics over a split, exact over uneven shards, on the weights that get published."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from dlsvc.data.atom import Arrays, Preprocessing, Rows
from dlsvc.data.tensors import to_tensors
from dlsvc.errors import UsageError
from dlsvc.store.bundle import Bundle
from dlsvc.tasks.base import Metrics, Task

Part = tuple[int, Metrics]


def evaluation_batches(
    table: Rows, preprocess: Preprocessing, batch_size: int, *, rank: int = 0, world_size: int = 1
) -> Iterator[tuple[int, Arrays]]:
    """(number, arrays) of this rank's batches of a split, in order, without augmentation. Undecodable samples are
    left out.
    """
    count = len(table)
    for number in range(rank, -(-count // batch_size), world_size):
        ids = np.arange(number * batch_size, min((number + 1) * batch_size, count), dtype=np.int64)
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


def conclude(task: Task, parts: Iterable[Part]) -> dict[str, float]:
    """The metrics of all batches."""
    whole = Metrics()
    for _, metrics in sorted(parts, key=lambda part: part[0]):
        whole.merge(metrics)
    return {name: float(value) for name, value in task.compute(whole).items()}


def evaluate_bundle(reference: str, home: Any, *, split: str | None = None) -> dict[str, Any]:
    """`dlsvc evaluate`: a published model on the split that its spec names."""
    from dlsvc.store.models import ModelStore

    bundle = ModelStore(home).open(reference)
    if bundle.config["spec"] is None:
        raise UsageError(f"{bundle.reference} was imported: it has no data of its own to be measured on")
    return {"model": bundle.reference, **evaluate_model(bundle, bundle.model(), home, split=split)}


def evaluate_model(bundle: Bundle, model: nn.Module, home: Any, *, split: str | None = None) -> dict[str, Any]:
    """A model, perhaps with other weights than the bundle's, on the data of the bundle's spec."""
    from dlsvc.data.preprocess import Preprocess
    from dlsvc.data.source import open_source
    from dlsvc.spec.load import parse

    spec: Any = parse(bundle.config["spec"])
    split = split or spec.evaluate.split
    table = open_source(spec.data, home, seed=spec.seed).table(split)
    task = bundle.task()
    batches = evaluation_batches(table, Preprocess.from_json(bundle.preprocess), spec.evaluate.batch_size)
    metrics = conclude(task, measure(task.modules(model), task, batches, torch.device("cpu")))
    return {"split": split, "samples": len(table), "metrics": metrics}
