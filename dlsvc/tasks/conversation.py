"""Conversation about an image: what the assistant says is learnt, what people ask is only read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dlsvc.generation import Sampling
from dlsvc.registry import register_task
from dlsvc.tasks.base import Batch, Losses, Metrics, Modules, Prediction, Report, as_pictures, dummy_samples, stretched
from dlsvc.tasks.language_modeling import LanguageModeling, token_losses, write_on


@register_task(
    "conversation",
    metrics=("answer_accuracy", "perplexity", "token_accuracy"),
    reads=("image", "tokens", "attention_mask", "answer_mask"),
)
class Conversation(LanguageModeling):
    """Cross-entropy of each token of the answers given the image and all that was said before it (Liu et al. 2023,
    equation 3). `predict` says what comes next. The arguments are those of `language-modeling`.

    Metrics: answer_accuracy (the share of conversations whose every token of the answers is the likeliest one, which is
    how often greedy writing gives them word for word), perplexity and token_accuracy of the answers.
    """

    def __init__(
        self, *, max_new_tokens: int = 64, temperature: float = 0.0, top_k: int = 0, top_p: float = 1.0
    ) -> None:
        super().__init__(max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p)

    def modules(self, model: nn.Module) -> dict[str, nn.Module]:
        return {name: model.get_submodule(name) for name in ("vision_encoder", "assistant")}

    def trainable(self, phase: str) -> str:
        return "assistant"

    def losses(self, modules: Modules, batch: Batch, phase: str) -> tuple[Losses, Report]:
        losses, counted, hits = self._by_token(modules, batch)
        tokens = counted.sum().clamp(min=1)
        report = {"token_loss": losses.detach().sum() / tokens, "token_accuracy": hits.sum() / tokens}
        # Each conversation weighs as many of its tokens as it has, and each token the same.
        return {"next_token": losses.sum() / len(losses)}, report

    def measure(self, modules: Modules, batch: Batch, metrics: Metrics) -> None:
        losses, counted, hits = self._by_token(modules, batch)
        right = (hits | ~counted).all(1)
        metrics.add(
            loss=losses.double().sum(),
            tokens=counted.sum(),
            hits=hits.sum(),
            right=right.sum(),
            count=len(right),
        )

    def compute(self, metrics: Metrics) -> dict[str, float]:
        sums = metrics.sums
        return {
            "answer_accuracy": float(sums["right"] / sums["count"]),
            "perplexity": math.exp(min(float(sums["loss"] / sums["tokens"]), 700.0)),
            "token_accuracy": float(sums["hits"] / sums["tokens"]),
        }

    def predict(self, modules: Modules, batch: Batch) -> list[Prediction]:
        """`written`: the ids of what the assistant says next, int64, up to and with the one that ends it."""
        asked = {name: batch[name][0].item() if name in batch else value for name, value in self.usual.items()}
        how = Sampling(float(asked["temperature"]), int(asked["top_k"]), float(asked["top_p"]))
        assistant: Any = modules["assistant"]
        patches: Tensor | None = modules["vision_encoder"](batch["image"]) if "image" in batch else None
        memories = assistant.language.memories()

        def read(tokens: Tensor, keep: Tensor, positions: Tensor) -> Tensor:
            nonlocal patches
            shown, patches = patches, None  # the first call reads the image, the memories keep it
            found: Tensor = assistant(shown, tokens, keep, positions=positions, memories=memories)
            return found

        longest = assistant.language.max_seq_len
        written = write_on(read, longest, batch, int(asked["max_new_tokens"]), how)
        return [{"written": row} for row in written.cpu().numpy()]

    def samples(self, modules: Modules, batch: Batch) -> list[dict[str, str | np.ndarray]]:
        """What it answers to the first question of each, where that comes with an image."""
        places = torch.arange(batch["tokens"].shape[1], device=batch["tokens"].device)
        keep = places <= batch["answer_mask"].int().argmax(1, keepdim=True)
        shown = ((batch["tokens"] < 0) & keep).any(1)
        batch, keep = {name: value[shown] for name, value in batch.items()}, keep[shown]
        if not len(keep):
            return []
        tokens = batch["tokens"]
        end = tokens.gather(1, batch["attention_mask"].sum(1, keepdim=True) - 1)
        asked = tokens.scatter(1, keep.sum(1, keepdim=True) - 1, end)
        written = self.predict(modules, {**batch, "tokens": asked, "attention_mask": keep})
        answers = zip(tokens, batch["answer_mask"], strict=True)
        wanted = [self.read_tokens(row[is_answer].tolist()) for row, is_answer in answers]
        questions = [self.read_tokens(row[row >= 0].tolist()) for row in torch.where(keep, asked, end)]
        texts = [self.read_tokens(row["written"].tolist()) for row in written]
        columns = as_pictures(stretched(batch["image"])), questions, texts, wanted
        return [{"image": a, "asked": b, "said": c, "answer": d} for a, b, c, d in zip(*columns, strict=True)]

    def dummy_batch(self, num_samples: int, model_args: Mapping[str, Any]) -> Batch:
        """An image, then a question and an answer of different lengths."""
        vision, language = model_args["vision"], model_args["language"]
        size, patches = vision["image_size"], (vision["image_size"] // vision["patch_size"]) ** 2
        length = language["max_seq_len"]
        lengths = torch.randint(patches + 4, length + 1, (num_samples, 1))
        places = torch.arange(length)
        words = torch.randint(4, language["vocab_size"], (num_samples, length))
        words[:, 0] = 1
        words[:, 1 : patches + 1] = -1
        tokens = torch.where(places < lengths - 1, words, torch.where(places == lengths - 1, 2, 0))
        keep = places < lengths
        return {
            "image": torch.randn(num_samples, vision["in_channels"], size, size),
            "tokens": tokens,
            "attention_mask": keep,
            "answer_mask": keep & (places > patches + 1),
            **dummy_samples(num_samples),
        }

    def _by_token(self, modules: Modules, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The loss of each token but the first, 0 of those that aren't an answer's; which are; and which were the
        likeliest. (B, T - 1)
        """
        with torch.no_grad():
            patches = modules["vision_encoder"](batch["image"])
        tokens, keep = batch["tokens"], batch["attention_mask"]
        logits = modules["assistant"](patches, tokens, keep)[:, :-1]
        return token_losses(logits, tokens[:, 1:].clamp(min=0), batch["answer_mask"][:, 1:])
