"""Typed inputs to typed predictions: the one call beneath `dlsvc predict`, every HTTP dialect and the demo."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from dlsvc.data.preprocess import Arrays, Preprocess
from dlsvc.data.tensors import to_tensors
from dlsvc.errors import DataError, did_you_mean
from dlsvc.store.bundle import Bundle
from dlsvc.tasks.base import Prediction

Input = Mapping[str, Any]

# Every forward pass has this many samples, padded: kernels round by the size of a batch, so a sample's answer would
# otherwise depend on who else asked at that moment.
BATCH_SIZE = 8


class Predictor:
    """A published model, ready to answer.

    An input is a mapping with what the model reads: `image` or `audio` (encoded bytes), `features` (numbers),
    `text`, or `seed` (an integer, for generation) and perhaps the `class` (a name) that is to be made. Inputs of one
    call may differ in that. Sets this process to one intra-op thread: sums are split by the number of threads, and
    answers must be equal wherever they are computed.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.task = bundle.task()
        self.modules = self.task.modules(bundle.model())
        self.preprocess = Preprocess.from_json(bundle.preprocess)
        torch.set_num_threads(1)

    @property
    def task_name(self) -> str:
        return str(self.bundle.config["task"]["name"])

    @property
    def reads(self) -> tuple[str, ...]:
        """What an input may hold; the first is what the model is for."""
        return self.preprocess.reads

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        """One prediction an input, in order. Raises DataError naming a bad one."""
        return self.compute(self.prepare(inputs))

    def prepare(self, inputs: Sequence[Input]) -> list[Arrays]:
        """Each input as the row that it will be in a batch. Raises DataError with the index of a bad one."""
        rows: list[Arrays] = [{}] * len(inputs)
        for places in _alike([tuple(sorted(item)) for item in inputs]):
            arrays = self._arrays([inputs[place] for place in places])
            for row, place in enumerate(places):
                rows[place] = {name: array[row : row + 1] for name, array in arrays.items()}
        return rows

    def compute(self, rows: Sequence[Arrays]) -> list[Prediction]:
        """One prediction a prepared row, in order, whoever's they are."""
        found: list[Prediction] = [{}] * len(rows)
        for places in _alike([tuple(sorted(row)) for row in rows]):
            for first in range(0, len(places), BATCH_SIZE):
                chosen = places[first : first + BATCH_SIZE]
                for place, prediction in zip(chosen, self._pass([rows[place] for place in chosen]), strict=True):
                    found[place] = prediction
        return found

    def _arrays(self, inputs: Sequence[Input]) -> Arrays:
        if "seed" not in inputs[0]:
            return self.preprocess.from_request(inputs)
        arrays = {"key": np.asarray([int(item["seed"]) for item in inputs], np.int64)}
        if "class" in inputs[0] and self.task.makes_classes:
            labels = [self._label(place, str(item["class"])) for place, item in enumerate(inputs)]
            arrays["label"] = np.asarray(labels, np.int64)
        return arrays

    def _label(self, place: int, name: str) -> int:
        known = self.bundle.classes
        if name not in known:
            raise DataError(f"input {place}: no class is called {name!r}{did_you_mean(name, known)}")
        return known.index(name)

    def _pass(self, rows: Sequence[Arrays]) -> list[Prediction]:
        padded = [*rows, *[rows[-1]] * (BATCH_SIZE - len(rows))]
        arrays = {name: np.concatenate([row[name] for row in padded]) for name in rows[0]}
        with torch.inference_mode():
            return self.task.predict(self.modules, to_tensors(arrays, torch.device("cpu")))[: len(rows)]


def _alike(kinds: Sequence[Hashable]) -> Iterator[list[int]]:
    """The places of each kind."""
    places: dict[Hashable, list[int]] = {}
    for place, kind in enumerate(kinds):
        places.setdefault(kind, []).append(place)
    yield from places.values()
