"""[R] What frozen modules make of the training split, computed once by tasks of Ray's and kept beside the data."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from torch import nn

from dlsvc.data.preprocess import Preprocess
from dlsvc.data.progress import Say, counted
from dlsvc.data.source import open_source
from dlsvc.data.table import Ids, chunks
from dlsvc.data.tensors import to_tensors
from dlsvc.errors import RunFailed
from dlsvc.nn.device import open_device
from dlsvc.spec.resolve import complete
from dlsvc.store.bundle import build_model, build_task
from dlsvc.store.checkpoint import weights_sha256
from dlsvc.train.initialise import initialise
from dlsvc.train.job import Job

# Rows of a task, and of a batch in it: kernels may round by the size of a batch, so it never varies.
_ROWS, _BATCH = 1024, 64
# Tasks that wait for their turn to be written, beyond those that the cluster's CPUs can run.
_AHEAD = 4
# In a run's directory, which file its samples were encoded to.
_NOTE = "encoded.json"


def encode_once(job: Job, say: Say) -> Job:
    """The job, with its images encoded if its spec asks for that. A file that is there already, from this run or from
    another with the same frozen weights and data, is taken as it is. Raises RunFailed when a run that goes on would
    have to encode anew with other weights than it began with.
    """
    if not job.spec.data.encode_once:
        return job
    model = _beginning(job)
    file = Path(job.home) / "encoded" / f"{_key(job, model)}.npy"
    noted = job.run.read(_NOTE).get("file", file.name)
    if noted != file.name and not file.with_name(noted).exists():
        raise RunFailed(
            f"what the samples of run {job.run.name} were encoded to, {noted}, is gone, and init_from leads to other "
            "weights now: give the run another name to begin anew"
        )
    file = file.with_name(noted)
    if not file.exists():
        _write(job, model, file, say)
    job.run.write(_NOTE, {"file": file.name})
    return dataclasses.replace(job, encoded=str(file))


def _beginning(job: Job) -> nn.Module:
    """The model as training begins with it: its frozen modules stay like that."""
    torch.manual_seed(job.spec.seed)
    model = build_model(job.spec.model.model_dump())
    initialise(model, job.spec.init_from, job.home)
    return model.eval()


def _key(job: Job, model: nn.Module) -> str:
    """Names what comes out: the frozen weights and what they are built into, the data, and what images become."""
    frozen = {name: value.detach() for name, value in model.named_parameters() if not value.requires_grad}
    built = [job.spec.model.name, _frozen_arguments(complete(job.spec).model.args, model)]
    said = [weights_sha256(frozen), built, job.data_fingerprint, job.preprocess["image"], _device(job)]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def _frozen_arguments(args: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """A model's own arguments, and those of its parts that are frozen."""
    parts = {name for name, part in model.named_children() if not any(p.requires_grad for p in part.parameters())}
    return {name: value for name, value in args.items() if name in parts or not isinstance(value, Mapping)}


def _device(job: Job) -> str:
    return "cuda" if job.spec.scaling.resources.gpu > 0 else "cpu"


def _write(job: Job, model: nn.Module, file: Path, say: Say) -> None:
    """All rows in their order, renamed to `file` when they are whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}-{uuid.uuid4().hex}")
    runs = chunks(len(job.order), _ROWS)
    try:
        _fill(part, len(job.order), counted(_encoded(job, model, runs), "encoding images", len(runs), say))
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)


def _fill(file: Path, count: int, parts: Iterable[NDArray[np.float32]]) -> None:
    """An array of numpy's of `count` rows, from its parts in their order."""
    first, whole = 0, None
    for rows in parts:
        if whole is None:
            whole = np.lib.format.open_memmap(file, "w+", np.float32, (count, *rows.shape[1:]))
        whole[first : first + len(rows)] = rows
        first += len(rows)
    assert whole is not None, "a training split has rows"
    whole.flush()


def _encoded(job: Job, model: nn.Module, runs: list[Ids]) -> Iterator[NDArray[np.float32]]:
    """Each run of rows, in order, as many ahead as the cluster has CPUs for."""
    gpus = min(1.0, job.spec.scaling.resources.gpu)
    # Said at once, and not by `options`: a process that had a GPU ends with its task then, and gives its memory back.
    task = ray.remote(num_cpus=1, num_gpus=gpus)(_encode)
    shared, waiting = ray.put(model), deque[Any]()
    calls = (task.remote(job, shared, ids) for ids in runs)
    ahead = int(ray.cluster_resources().get("CPU", 1)) + _AHEAD
    waiting.extend(itertools.islice(calls, ahead))
    while waiting:
        yield ray.get(waiting.popleft())
        waiting.extend(itertools.islice(calls, 1))


def _encode(job: Job, model: nn.Module, ids: Ids) -> NDArray[np.float32]:
    """Some rows, (B, ...) float32; NaN where an image can't be decoded."""
    torch.set_num_threads(1)
    device = open_device(_device(job))
    table = open_source(job.spec.data, Path(job.home), seed=job.spec.seed).table("train")
    preprocess = Preprocess.from_json(job.preprocess)
    task = build_task(job.spec.task.model_dump())
    modules = task.modules(model.to(device))
    found = []
    for first in range(0, len(ids), _BATCH):
        samples, bad = preprocess.decode(table.rows(ids[first : first + _BATCH]))
        encoded = task.encode(modules, to_tensors({"image": preprocess.finish(samples)["image"]}, device))
        encoded[[row.position for row in bad]] = torch.nan
        found.append(encoded.cpu().numpy())
    return np.concatenate(found)
