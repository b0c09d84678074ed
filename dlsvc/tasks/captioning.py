"""Captions: how a model that can write of an image does it, and how well; and learning nothing but to write them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dlsvc.errors import UsageError
from dlsvc.generation import beam_search
from dlsvc.registry import register_task
from dlsvc.tasks.base import (
    Batch,
    Losses,
    Metrics,
    Modules,
    Prediction,
    Report,
    Setting,
    Task,
    as_pictures,
    dummy_samples,
    stretched,
)
from dlsvc.tasks.language_modeling import dummy_texts, token_losses
from dlsvc.tasks.translation import BEAM_SETTINGS, MOST_BEAMS, check_length_penalty, scores


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
        check_length_penalty(self.length_penalty)

    @property
    def settings(self) -> Mapping[str, Setting]:
        return BEAM_SETTINGS

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

    def samples(self, task: Task, model: Any, batch: Batch) -> list[dict[str, str | np.ndarray]]:
        """Images with what is written of them and their own texts."""
        tokens, end = batch["tokens"], batch["attention_mask"].sum(1, keepdim=True) - 1
        ends = torch.cat([tokens[:, :1], tokens.gather(1, end)], dim=1)
        written = self.write_for(model, {"image": batch["image"], "ends": ends})
        columns = as_pictures(stretched(batch["image"])), task.read(written), task.read(tokens)
        return [{"image": a, "written": b, "text": c} for a, b, c in zip(*columns, strict=True)]

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


@register_task(
    "captioning",
    metrics=("chrf", "bleu", "perplexity", "token_accuracy"),
    reads=("image", "tokens", "attention_mask"),
)
class Captioning(Task):
    """Cross-entropy of each token of a text given the image and those before it (Li et al. 2023, section 3.3): a bridge
    between a frozen image encoder and a frozen language model is trained.

    The loss is the sum over tokens divided by samples times length. Metrics: chrf and bleu of captions, written with
    `num_beams`, of the first `scored` samples (null: all); perplexity and token_accuracy on all.
    """

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        num_beams: int = 3,
        length_penalty: float = 1.0,
        scored: int | None = None,
    ) -> None:
        if not 0 <= label_smoothing < 1:
            raise UsageError(f"label_smoothing must be in [0, 1), not {label_smoothing}")
        self.label_smoothing = label_smoothing
        self.captioner = Captioner(num_beams, length_penalty, scored)
        self.model: Any = None

    @property
    def writes(self) -> bool:
        return True

    @property
    def settings(self) -> Mapping[str, Setting]:
        return self.captioner.settings

    def modules(self, model: nn.Module) -> dict[str, nn.Module]:
        """Also notes the whole, which writes."""
        self.model = model
        return {name: model.get_submodule(name) for name in ("vision_encoder", "bridge", "language")}

    def trainable(self, phase: str) -> str:
        return "bridge"

    def losses(self, modules: Modules, batch: Batch, phase: str) -> tuple[Losses, Report]:
        losses, counted, hits = self._by_token(modules, batch, self.label_smoothing)
        return {"next_token": losses.sum() / losses.numel()}, {"token_accuracy": hits.sum() / counted.sum()}

    def measure(self, modules: Modules, batch: Batch, metrics: Metrics) -> None:
        losses, counted, hits = self._by_token(modules, batch)
        metrics.add(loss=losses.double().sum(), tokens=counted.sum(), hits=hits.sum())
        self.captioner.measure(self.model, batch, batch["tokens"], metrics)

    def compute(self, metrics: Metrics) -> dict[str, float]:
        sums = metrics.sums
        return {
            **caption_scores(metrics, self.read_tokens),
            "perplexity": math.exp(min(float(sums["loss"] / sums["tokens"]), 700.0)),
            "token_accuracy": float(sums["hits"] / sums["tokens"]),
        }

    def predict(self, modules: Modules, batch: Batch) -> list[Prediction]:
        """`written`: the ids of each image's caption, int64, up to and with the one that ends it."""
        if "ends" not in batch:
            raise UsageError("a captioning model reads an image alone, and writes of it")
        return [{"written": row} for row in self.captioner.write_for(self.model, batch).cpu().numpy()]

    def samples(self, modules: Modules, batch: Batch) -> list[dict[str, str | np.ndarray]]:
        return self.captioner.samples(self, self.model, batch)

    def dummy_batch(self, num_samples: int, model_args: Mapping[str, Any]) -> Batch:
        vision, language = model_args["vision"], model_args["language"]
        size, length = vision["image_size"], language["max_seq_len"] - model_args["qformer"]["num_queries"]
        tokens, keep = dummy_texts(num_samples, language["vocab_size"], length)
        image = torch.randn(num_samples, vision["in_channels"], size, size)
        return {
            "image": image,
            "tokens": tokens,
            "attention_mask": keep,
            "ends": torch.tensor([[1, 2]]).expand(num_samples, -1),
            **dummy_samples(num_samples),
        }

    def _by_token(self, modules: Modules, batch: Batch, smoothing: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
        tokens, keep = batch["tokens"], batch["attention_mask"]
        with torch.no_grad():
            states = modules["vision_encoder"](batch["image"])
        logits = modules["language"](modules["bridge"](states), tokens[:, :-1], keep[:, :-1])
        return token_losses(logits, tokens[:, 1:], keep[:, 1:], smoothing)
