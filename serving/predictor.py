"""Typed inputs to typed predictions from a bundle: the one call beneath `dlsvc predict`, every HTTP dialect and the demo."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from dlsvc.data.preprocess import Preprocess
from dlsvc.data.tensors import to_tensors
from dlsvc.store.bundle import Bundle
from dlsvc.tasks.base import Prediction

Input = Mapping[str, Any]

# Every forward pass has this many samples, padded: a sample's answer then doesn't depend on who else was in its batch.
BATCH_SIZE = 8


class Predictor:
    """A published model, ready to answer. Thread-safe; uses `num_threads` intra-op threads.

    An input is a mapping with what the model reads: `image` (encoded bytes), `features` (numbers), `text`, or `seed` (an integer, for generation).
    """

    def __init__(self, bundle: Bundle, *, batch_size: int = BATCH_SIZE, num_threads: int = 1) -> None:
        self.bundle = bundle
        self.batch_size = batch_size
        self.task = bundle.task()
        self.modules = self.task.modules(bundle.model())
        self.preprocess = Preprocess.from_json(bundle.preprocess)
        self._lock = threading.Lock()
        torch.set_num_threads(num_threads)

    @property
    def task_name(self) -> str:
        return str(self.bundle.config["task"]["name"])

    @property
    def classes(self) -> list[str]:
        return self.bundle.classes

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        """One prediction an input, in order. Inputs in one call must read the same keys. Raises DataError naming a bad one."""
        found: list[Prediction] = []
        for first in range(0, len(inputs), self.batch_size):
            found += self._predict(inputs[first : first + self.batch_size])
        return found

    def _predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        padded = [*inputs, *[inputs[-1]] * (self.batch_size - len(inputs))]
        batch = self._batch(padded)
        with self._lock, torch.inference_mode():
            return self.task.predict(self.modules, batch)[: len(inputs)]

    def _batch(self, inputs: Sequence[Input]) -> dict[str, torch.Tensor]:
        if "seed" in inputs[0]:
            seeds = np.asarray([int(item["seed"]) for item in inputs], np.int64)
            return {"key": torch.from_numpy(seeds)}
        return to_tensors(self.preprocess.from_request(inputs), torch.device("cpu"))
