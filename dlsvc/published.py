"""A published model in batches, for whoever makes data with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from dlsvc.data.preprocess import Preprocess
from dlsvc.data.tensors import to_tensors
from dlsvc.store.bundle import Bundle
from dlsvc.tasks.base import Batch, Prediction, dummy_samples


class Published:
    """Inputs are mappings of what the model reads, as a request has them; those of one call are of the same keys."""

    def __init__(self, bundle: Bundle) -> None:
        self.reference = bundle.reference
        self.task_name = str(bundle.config["task"]["name"])
        self.task = bundle.task()
        self.modules = self.task.modules(bundle.model())
        self.preprocess = Preprocess.from_json(bundle.preprocess)

    @torch.inference_mode()
    def predict(self, inputs: Sequence[Mapping[str, Any]], **settings: float) -> list[Prediction]:
        """One prediction an input; `settings` are of the task's."""
        return self.task.predict(self.modules, self._batch(inputs, settings))

    def written(self, inputs: Sequence[Mapping[str, Any]], **settings: float) -> list[str]:
        """What the model writes of each input."""
        return [self.preprocess.read_tokens(row["written"].tolist()) for row in self.predict(inputs, **settings)]

    def _batch(self, inputs: Sequence[Mapping[str, Any]], settings: Mapping[str, float]) -> Batch:
        count = len(inputs)
        batch = {**dummy_samples(count), **to_tensors(self.preprocess.from_request(inputs), torch.device("cpu"))}
        for name, value in settings.items():
            whole = self.task.settings[name].whole
            batch[name] = torch.full((count,), value, dtype=torch.int64 if whole else torch.float32)
        if self.task.writes and self.preprocess.text is not None and "tokens" not in batch:
            special = self.preprocess.text.tokenizer.special
            batch["ends"] = torch.tensor([[special.bos, special.eos]]).expand(count, -1)
        return batch
