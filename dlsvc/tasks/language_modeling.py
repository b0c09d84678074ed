"""Language modelling: each token is foretold from those before it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dlsvc.errors import UsageError
from dlsvc.generation import Sampling, aligned_right, sampled, stacked, without_end
from dlsvc.registry import register_task
from dlsvc.tasks.base import Batch, Losses, Metrics, Modules, Prediction, Report, Setting, Task, dummy_samples

MOST_TEMPERATURE = 100.0

# So many tokens of a text are shown to be gone on from.
_BEGINNING = 8

# Logits (B, T, V) of tokens, what counts of all that was read so far, and positions.
Reader = Callable[[Tensor, Tensor, Tensor], Tensor]


@register_task(
    "language-modeling", metrics=("perplexity", "token_loss", "token_accuracy"), reads=("tokens", "attention_mask")
)
class LanguageModeling(Task):
    """Cross-entropy of each token given those before it. `predict` writes on after a text.

    The loss is the sum over tokens divided by samples times length, padding included: so every token weighs the same,
    whichever texts are in an atom with its own. Metrics: perplexity (e to the mean loss a token, the end of a text
    included), token_loss, token_accuracy.
    """

    def __init__(
        self, *, max_new_tokens: int = 64, temperature: float = 0.0, top_k: int = 0, top_p: float = 1.0
    ) -> None:
        if max_new_tokens < 1 or temperature < 0 or top_k < 0 or not 0 < top_p <= 1:
            raise UsageError(
                "max_new_tokens must be at least 1, temperature and top_k at least 0 and top_p in (0, 1], not "
                f"{max_new_tokens}, {temperature}, {top_k} and {top_p}"
            )
        self.usual = {"max_new_tokens": max_new_tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p}

    @property
    def writes(self) -> bool:
        return True

    @property
    def settings(self) -> Mapping[str, Setting]:
        return {
            "max_new_tokens": Setting(1, 2**16, whole=True),
            "temperature": Setting(0, MOST_TEMPERATURE),
            "top_k": Setting(0, 2**24, whole=True),
            "top_p": Setting(1e-6, 1),
        }

    def losses(self, modules: Modules, batch: Batch, phase: str) -> tuple[Losses, Report]:
        losses, counted, hits = self._by_token(modules, batch)
        tokens = counted.sum()
        report = {"token_loss": losses.detach().sum() / tokens, "token_accuracy": hits.sum() / tokens}
        return {"next_token": losses.sum() / losses.numel()}, report

    def measure(self, modules: Modules, batch: Batch, metrics: Metrics) -> None:
        losses, counted, hits = self._by_token(modules, batch)
        metrics.add(loss=losses.double().sum(), tokens=counted.sum(), hits=hits.sum())

    def compute(self, metrics: Metrics) -> dict[str, float]:
        sums = metrics.sums
        loss = float(sums["loss"] / sums["tokens"])
        return {
            "perplexity": math.exp(min(loss, 700.0)),
            "token_loss": loss,
            "token_accuracy": float(sums["hits"] / sums["tokens"]),
        }

    def predict(self, modules: Modules, batch: Batch) -> list[Prediction]:
        """`written`: the ids of the tokens after each text, int64, up to and with the one that ends it."""
        written = stacked(self.stream(modules, batch))
        return [{"written": row} for row in written.cpu().numpy()]

    def stream(self, modules: Modules, batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
        asked = {name: batch[name][0].item() if name in batch else value for name, value in self.usual.items()}
        how = Sampling(float(asked["temperature"]), int(asked["top_k"]), float(asked["top_p"]))
        model: Any = modules["model"]
        return writing_on(reading(model), model.max_seq_len, batch, int(asked["max_new_tokens"]), how)

    def samples(self, modules: Modules, batch: Batch) -> list[dict[str, str | np.ndarray]]:
        """How it goes on from the first tokens of texts that are longer."""
        long = batch["attention_mask"].sum(1) > _BEGINNING
        batch = {name: value[long] for name, value in batch.items()}
        tokens = batch["tokens"][:, : _BEGINNING + 1].clone()
        if not len(tokens):
            return []
        tokens[:, -1:] = batch["tokens"].gather(1, batch["attention_mask"].sum(1, keepdim=True) - 1)
        asked = {**batch, "tokens": tokens, "attention_mask": torch.ones_like(tokens, dtype=torch.bool)}
        written = [self.read_tokens(row["written"].tolist()) for row in self.predict(modules, asked)]
        pairs = zip(self.read(tokens), written, strict=True)
        return [{"beginning": beginning, "written": text} for beginning, text in pairs]

    def dummy_batch(self, num_samples: int, model_args: Mapping[str, Any]) -> Batch:
        tokens, keep = dummy_texts(num_samples, int(model_args["vocab_size"]), int(model_args["max_seq_len"]))
        return {"tokens": tokens, "attention_mask": keep, **dummy_samples(num_samples)}

    def _by_token(self, modules: Modules, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The loss of each token but the first, 0 of padding; what counts; and which were the likeliest. (B, T - 1)"""
        logits = modules["model"](batch["tokens"][:, :-1], batch["attention_mask"][:, :-1])
        return token_losses(logits, batch["tokens"][:, 1:], batch["attention_mask"][:, 1:])


def token_losses(
    logits: Tensor, target: Tensor, counted: Tensor, smoothing: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy (B, T) of logits (B, T, V), 0 where a token doesn't count; what counts; and where the likeliest was
    right.
    """
    logits = logits.float()
    losses = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none", label_smoothing=smoothing)
    hits = (logits.detach().argmax(-1) == target) & counted
    return losses.view_as(target) * counted, counted, hits


def reading(model: Any) -> Reader:
    """A language model that remembers what it has read, from an empty memory on."""
    memories = model.memories()

    def read(tokens: Tensor, keep: Tensor, positions: Tensor) -> Tensor:
        found: Tensor = model(tokens, keep, positions=positions, memories=memories)
        return found

    return read


def write_on(read: Reader, longest: int, batch: Batch, num_tokens: int, how: Sampling) -> Tensor:
    """Tokens after each text, (B, N), as `writing_on` gives them."""
    return stacked(writing_on(read, longest, batch, num_tokens, how))


def writing_on(
    read: Reader, longest: int, batch: Batch, num_tokens: int, how: Sampling
) -> Iterator[tuple[Tensor, Tensor]]:
    """One token after the other, (B,), after each text, and whether it is the last, by a decoder that remembers what it
    has read, none beyond the `longest` text.
    """
    keep, end = without_end(batch["tokens"], batch["attention_mask"])
    limits = longest - keep.sum(1)
    tokens, keep, positions = aligned_right(batch["tokens"], keep)

    def step(token: Tensor | None) -> Tensor:
        nonlocal keep, positions
        if token is None:
            return read(tokens, keep, positions)[:, -1]
        keep = torch.cat([keep, torch.ones_like(keep[:, :1])], dim=1)
        # A text at its limit is carried along, at the last position that there is.
        positions = (positions[:, -1:] + 1).clamp(max=longest - 1)
        return read(token[:, None], keep, positions)[:, -1]

    return sampled(step, end=end, words=batch["key"], limits=limits, num_tokens=num_tokens, how=how)


def dummy_texts(num_samples: int, vocab_size: int, length: int) -> tuple[Tensor, Tensor]:
    """Random tokens (B, T) of different lengths between begin, 1, and end, 2, and what counts of them."""
    lengths = torch.randint(3, length + 1, (num_samples, 1))
    places = torch.arange(length)
    words = torch.randint(4, vocab_size, (num_samples, length))
    words[:, 0] = 1
    tokens = torch.where(places < lengths - 1, words, torch.where(places == lengths - 1, 2, 0))
    return tokens, places < lengths
