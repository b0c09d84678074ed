"""[R] A model behind a queue: requests that arrive together are answered together."""

from __future__ import annotations

from typing import Any

from ray import serve

from dlsvc.errors import DlsvcError
from dlsvc.store.models import ModelStore
from dlsvc.tasks.base import Prediction
from serving.predictor import Input, Predictor


class ModelReplica:
    """Loads a bundle and answers with its predictions. Every input is an element of some batch of fixed size."""

    def __init__(self, reference: str, home: str, batch_size: int, batch_wait_s: float) -> None:
        from pathlib import Path

        bundle = ModelStore(Path(home)).open(reference)
        self.predictor = Predictor(bundle, batch_size=batch_size)
        self.reference = bundle.reference
        self.answer_batch.set_max_batch_size(batch_size)  # type: ignore[attr-defined]
        self.answer_batch.set_batch_wait_timeout_s(batch_wait_s)  # type: ignore[attr-defined]

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.005)
    async def answer_batch(self, inputs: list[Input]) -> list[Prediction | DlsvcError]:
        """Predictions in order; a bad input gets its own error and spoils nobody else's answer."""
        found: list[Prediction | DlsvcError] = [{}] * len(inputs)
        kinds: dict[tuple[str, ...], list[int]] = {}
        for place, item in enumerate(inputs):
            kinds.setdefault(tuple(sorted(item)), []).append(place)
        for places in kinds.values():
            for place, prediction in zip(places, self._predict([inputs[place] for place in places]), strict=True):
                found[place] = prediction
        return found

    def _predict(self, inputs: list[Input]) -> list[Prediction | DlsvcError]:
        try:
            return list(self.predictor.predict(inputs))
        except DlsvcError as error:
            if len(inputs) == 1:
                return [error]
            return [answer for item in inputs for answer in self._predict([item])]

    async def predict(self, item: Input) -> Prediction | DlsvcError:
        return await self.answer_batch(item)  # type: ignore[no-any-return]

    def describe(self) -> dict[str, Any]:
        bundle = self.predictor.bundle
        return {"reference": self.reference, "task": self.predictor.task_name, "classes": bundle.classes, "metrics": bundle.metrics}
