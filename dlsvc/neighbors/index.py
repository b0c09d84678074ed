"""A model's vectors of a whole split, computed once and kept beside the data."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dlsvc.data.preprocess import Preprocess
from dlsvc.data.progress import Say, Tenths, silent
from dlsvc.data.table import Table
from dlsvc.data.tensors import to_tensors
from dlsvc.errors import DataError
from dlsvc.neighbors.distance import Ids
from dlsvc.nn.device import CPU
from dlsvc.store.bundle import Bundle
from dlsvc.train.evaluate import evaluation_batches

BATCH_SIZE = 256
# Changes when vectors of an older version can't be read as ones of this.
_VERSION = 1


@dataclass(frozen=True)
class VectorIndex:
    """The vectors (N, D) float32 of those samples that can be decoded, by their ids, and their labels where there are
    any.
    """

    ids: Ids
    vectors: NDArray[np.float32]
    labels: Ids | None


class Encoder:
    """A published model as a function from samples to vectors."""

    def __init__(self, bundle: Bundle, device: torch.device = CPU) -> None:
        self.bundle, self.device = bundle, device
        self.task = bundle.task()
        self.modules = self.task.modules(bundle.model().to(device))
        self.preprocess = Preprocess.from_json(bundle.preprocess)

    def vectors(self, arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """(B, D) float32 of a batch that preprocessing made. Raises UsageError for a model that makes no vectors."""
        with torch.inference_mode():
            found = self.task.vectors(self.modules, to_tensors(dict(arrays), self.device))
        return found.cpu().numpy().astype(np.float32)


def index_of(encoder: Encoder, table: Table, home: Path, say: Say = silent) -> VectorIndex:
    """The index of a split under a model, made when it isn't there. Raises DataError when nothing can be decoded."""
    path = home / "vectors" / f"{_key(encoder, table)}.npz"
    if not path.exists():
        _write(path, _computed(encoder, table, say))
    with np.load(path, allow_pickle=False) as kept:
        return VectorIndex(kept["ids"], kept["vectors"], kept.get("labels"))


def _computed(encoder: Encoder, table: Table, say: Say) -> dict[str, NDArray[Any]]:
    tenths = Tenths(f"encoding with {encoder.bundle.reference}", len(table), say)
    parts: dict[str, list[NDArray[Any]]] = {"ids": [], "vectors": [], "labels": []}
    for _, arrays in evaluation_batches(table, encoder.preprocess, BATCH_SIZE):
        parts["ids"].append(arrays["id"])
        parts["vectors"].append(encoder.vectors(arrays))
        if "label" in arrays:
            parts["labels"].append(arrays["label"])
        done = int(arrays["id"][-1]) + 1
        tenths.reach(done, f"{done:,} of {len(table):,}")
    if not parts["ids"]:
        raise DataError("none of the samples can be decoded")
    return {name: np.concatenate(arrays) for name, arrays in parts.items() if arrays}


def _key(encoder: Encoder, table: Table) -> str:
    """Of everything that the vectors depend on."""
    bundle = encoder.bundle
    elsewhere = () if encoder.device.type == "cpu" else (encoder.device.type,)
    parts = (str(_VERSION), *sorted(bundle.digests.values()), table.fingerprint, *elsewhere)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _write(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{uuid.uuid4().hex}.npz")
    np.savez(draft, allow_pickle=False, **arrays)
    os.replace(draft, path)
