"""[R] A model behind a queue: requests that arrive together are computed together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from ray import serve

from dlsvc.data.preprocess import Arrays
from dlsvc.errors import DlsvcError
from dlsvc.predictor import Input, Piece
from dlsvc.store.models import ModelStore
from dlsvc.tasks.base import Prediction
from serving.predictor import served


class ModelReplica:
    """Loads a bundle and answers with its predictions.

    Decoding and computing happen in threads, so that the next batch fills and health checks are answered meanwhile.
    """

    def __init__(self, reference: str, home: str, device: str, max_batch_size: int, batch_wait_s: float) -> None:
        self.predictor = served(ModelStore(Path(home)).open(reference), device)
        batched = serve.batch(max_batch_size=max_batch_size, batch_wait_timeout_s=batch_wait_s)
        self.compute_one = batched(self._compute)

    async def predict(self, inputs: Sequence[Input]) -> list[Prediction] | DlsvcError:
        """A prediction an input, or what is wrong with them: returned, since raised it would count as our failure."""
        try:
            rows = await asyncio.to_thread(self.predictor.prepare, inputs)
        except DlsvcError as error:
            return error
        return list(await asyncio.gather(*(self.compute_one(row) for row in rows)))

    async def stream(self, item: Input) -> AsyncIterator[Piece | DlsvcError]:
        """What is written for an input, token by token, or what is wrong with it."""
        try:
            (row,) = await asyncio.to_thread(self.predictor.prepare, [item])
        except DlsvcError as error:
            yield error
            return
        pieces = self.predictor.stream(row)
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            yield piece

    async def describe(self) -> dict[str, Any]:
        """What it serves; an answer means that it can."""
        return {"model": self.predictor.bundle.reference, "task": self.predictor.task_name}

    async def _compute(self, rows: list[Arrays]) -> list[Prediction]:
        return await asyncio.to_thread(self.predictor.compute, rows)
