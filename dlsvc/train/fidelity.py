"""How near a model's samples come to real ones, in the vectors that a published model of ours makes of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from dlsvc.data.atom import Arrays, Rows
from dlsvc.data.preprocess import Preprocess
from dlsvc.data.tensors import to_tensors
from dlsvc.errors import DataError
from dlsvc.metrics.distribution import fidelity
from dlsvc.store.bundle import Bundle
from dlsvc.tasks.base import INPUTS, Batch, Metrics, Part, Task


@dataclass(frozen=True)
class Fidelity:
    """A published model as the eye that compares. Each real sample is met by one made from its own id, with its label
    or text where the model takes one. A classifier of the same classes (`classifies`) also reads what was made.
    """

    task: Task
    modules: Mapping[str, nn.Module]
    preprocess: Preprocess
    device: torch.device
    classifies: bool = False

    @classmethod
    def open(cls, bundle: Bundle, device: torch.device, classes: Sequence[str] = ()) -> Fidelity:
        """`classes` are those of the data that the measured model was trained on."""
        task, preprocess = bundle.task(), Preprocess.from_json(bundle.preprocess)
        classifies = bundle.config["task"]["name"] == "classification" and preprocess.classes == tuple(classes) != ()
        return cls(task, task.modules(bundle.model().to(device)), preprocess, device, classifies)

    def measure(
        self, task: Task, modules: Mapping[str, nn.Module], table: Rows, batches: Iterable[tuple[int, Arrays]]
    ) -> list[Part]:
        """Each batch's vectors by its number; `batches` are of the table, as the measured model reads them."""
        parts = []
        with torch.inference_mode():
            for number, arrays in batches:
                metrics, ids = Metrics(), torch.from_numpy(arrays["id"])
                conditions = {name: value for name, value in arrays.items() if name not in ("image", "mask")}
                made = as_bytes(row["image"] for row in task.predict(modules, to_tensors(conditions, self.device)))
                seen = self._read({"image": made})
                real = self.task.vectors(self.modules, self._read(table.rows(arrays["id"])))
                metrics.collect(ids, real=real, made=self.task.vectors(self.modules, seen))
                if self.classifies and (task.makes_classes or task.makes_prompts):
                    named = [row["label_id"] for row in self.task.predict(self.modules, seen)]
                    metrics.add(asked=len(named), right=int((np.asarray(named) == arrays["label"]).sum()))
                parts.append((number, metrics))
        return parts

    @staticmethod
    def conclude(parts: Iterable[Part]) -> dict[str, float]:
        """The distances of all batches, and the share of samples that were read as what was asked for."""
        whole = Metrics.of(parts)
        found = fidelity(whole.rows("real"), whole.rows("made"))
        if "asked" in whole.sums:
            found["label_accuracy"] = float(whole.sums["right"] / whole.sums["asked"])
        return found

    def _read(self, rows: Arrays) -> Batch:
        arrays, bad = self.preprocess.decode(rows)
        if bad:
            raise DataError(f"evaluate.fidelity: the model of the features can't read {bad[0].uri}: {bad[0].reason}")
        inputs = {name: value for name, value in self.preprocess.finish(arrays).items() if name in INPUTS}
        return to_tensors(inputs, self.device)


def as_bytes(pictures: Iterable[np.ndarray]) -> np.ndarray:
    """Pictures (H, W, C) in [0, 1] -> (N, H, W, C) uint8, as they would be stored."""
    stacked = np.clip(np.stack(list(pictures)), 0, 1)
    found: np.ndarray = (stacked * 255).round().astype(np.uint8)
    return found
