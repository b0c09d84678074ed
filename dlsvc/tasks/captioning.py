"""Captions: how a model that can write of an image does it, and how well."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dlsvc.errors import UsageError
from dlsvc.generation import beam_search
from dlsvc.tasks.base import Batch, Metrics, Setting
from dlsvc.tasks.translation import MOST_BEAMS, scores


@dataclass(frozen=True)
class Captioner:
    """A beam of `num_beams`, whose scores are divided by length^length_penalty; the first `scored` samples of a split
    are written and compared (null: all).

    A model that writes gives `writing(image, begin, num_beams)`, the steps of a beam search, and `max_text_len`.
    """

    num_beams: int = 3
    length_penalty: float = 1.0
    scored: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.num_beams <= MOST_BEAMS or (self.scored is not None and self.scored < 1):
            raise UsageError(
                f"num_beams must be in 1 to {MOST_BEAMS} and scored at least 1, not {self.num_beams} and {self.scored}"
            )

    @property
    def settings(self) -> Mapping[str, Setting]:
        return {"num_beams": Setting(1, MOST_BEAMS, whole=True), "length_penalty": Setting(-10, 10)}

    def measure(self, model: Any, batch: Batch, wanted: Tensor, metrics: Metrics) -> None:
        """Keep what is written of a batch's first samples, and the texts (B, T) that were wanted."""
        chosen = batch["id"] < (self.scored or torch.inf)
        if chosen.any():
            image, wanted = batch["image"][chosen], wanted[chosen]
            end = wanted.gather(1, batch["attention_mask"][chosen].sum(1, keepdim=True) - 1)[:, 0]
            written = self._write(model, image, wanted[:, 0], end, wanted.shape[1] - 1, self.num_beams)
            metrics.collect(batch["id"][chosen], written=written, wanted=wanted[:, 1:])

    def write_for(self, model: Any, batch: Batch) -> Tensor:
        """Captions (B, N) of a request's images, whose `ends` (B, 2) begin and end a text."""
        beams = int(batch["num_beams"][0]) if "num_beams" in batch else self.num_beams
        penalty = float(batch["length_penalty"][0]) if "length_penalty" in batch else self.length_penalty
        begin, end = batch["ends"].unbind(1)
        return self._write(model, batch["image"], begin, end, model.max_text_len - 1, beams, penalty)

    def _write(
        self,
        model: Any,
        image: Tensor,
        begin: Tensor,
        end: Tensor,
        num_tokens: int,
        num_beams: int,
        penalty: float | None = None,
    ) -> Tensor:
        step, reorder = model.writing(image, begin, num_beams)
        penalty = self.length_penalty if penalty is None else penalty
        return beam_search(step, reorder, end=end, num_tokens=num_tokens, num_beams=num_beams, length_penalty=penalty)


def caption_scores(metrics: Metrics, read: Callable[[list[int]], str]) -> dict[str, float]:
    """chrF and BLEU of the captions kept."""
    written, wanted = (
        [read(row.astype("int64").tolist()) for row in metrics.rows(name)] for name in ("written", "wanted")
    )
    return scores(written, wanted)
