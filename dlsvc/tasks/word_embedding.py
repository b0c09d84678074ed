"""Vectors of words from the company they keep: skip-gram and CBOW with negative sampling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.augment import keys
from dlsvc.errors import UsageError
from dlsvc.registry import register_task
from dlsvc.tasks.base import Batch, Losses, Metrics, Modules, Prediction, Report, Task, dummy_samples
from dlsvc.tasks.language_modeling import dummy_texts

# Ids of padding, of the ends of texts and of what is unknown come before those of words.
SPECIAL = 4
# Of Zipf's law as Mandelbrot has it: the r-th word occurs about 1 / (r + 2.7) times as often as all.
_SHIFT = 2.7
# Negatives are drawn by frequency to this power (Mikolov et al. 2013b, section 2.2).
_POWER = 0.75


@register_task(
    "word-embedding",
    metrics=("pair_loss", "pair_accuracy"),
    reads=("tokens", "attention_mask"),
    tokenizer="word",
)
class WordEmbedding(Task):
    """Negative sampling (Mikolov et al. 2013b, equation 4): -log s(v.u) - sum log s(-v.n) over `negatives` words n that
    are drawn by frequency, for each word of a window around a word (`skip-gram`), or for the word given the mean of
    those around it (`cbow`). A window is 1 to `window` words to either side; frequent words are passed over with the
    probability 1 - sqrt(subsample / frequency), with 0 never.

    Words are numbered by frequency, as the word tokenizer does, and frequencies are taken from their ranks by Zipf's
    law. Windows, what is passed over and negatives belong to the sample. The loss is the sum over pairs by the places
    of the texts, so that a pair counts alike in whichever atom it is. Metrics: pair_loss, the mean over pairs, and
    pair_accuracy, how often a neighbour is likelier than each negative that is another word.
    """

    def __init__(
        self,
        *,
        method: Literal["skip-gram", "cbow"] = "skip-gram",
        window: int = 5,
        negatives: int = 5,
        subsample: float = 0.0,
    ) -> None:
        if window < 1 or negatives < 1 or subsample < 0:
            raise UsageError(
                f"window and negatives must be at least 1 and subsample at least 0, not {window}, {negatives} and "
                f"{subsample}"
            )
        self.method, self.window, self.negatives, self.subsample = method, window, negatives, subsample
        self.frequency = np.empty(0)

    def modules(self, model: Any) -> dict[str, nn.Module]:
        """Also notes the words' frequencies, (V,): special tokens have none."""
        share = 1 / (np.arange(model.words.num_embeddings - SPECIAL) + 1 + _SHIFT)
        self.frequency = np.concatenate([np.zeros(SPECIAL), share / share.sum()])
        return {"model": model}

    def losses(self, modules: Modules, batch: Batch, phase: str) -> tuple[Losses, Report]:
        losses, right = self._pairs(modules, batch)
        count = max(1, len(losses))  # texts of one known word have no pairs
        return {"pairs": losses.sum() / batch["tokens"].numel()}, {"pair_accuracy": right.float().sum() / count}

    def measure(self, modules: Modules, batch: Batch, metrics: Metrics) -> None:
        losses, right = self._pairs(modules, batch)
        metrics.add(loss=losses.double().sum(), right=right.sum(), count=len(losses))

    def compute(self, metrics: Metrics) -> dict[str, float]:
        sums = metrics.sums
        count = max(1.0, float(sums["count"]))
        return {"pair_loss": float(sums["loss"]) / count, "pair_accuracy": float(sums["right"]) / count}

    def predict(self, modules: Modules, batch: Batch) -> list[Prediction]:
        """`embedding`: the mean of a text's words, of one word its vector."""
        return [{"embedding": vector} for vector in self.vectors(modules, batch).cpu().numpy()]

    def dummy_batch(self, num_samples: int, model_args: Mapping[str, Any]) -> Batch:
        tokens, keep = dummy_texts(num_samples, int(model_args["vocab_size"]), int(model_args["max_seq_len"]))
        return {"tokens": tokens, "attention_mask": keep, **dummy_samples(num_samples)}

    def _pairs(self, modules: Modules, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss of each pair, and whether its word is likelier than the negatives, (P,) each."""
        model: Any = modules["model"]
        inputs, weights, targets, beside = self._windows(batch, self.frequency)
        logits = model(inputs, weights, targets).float()
        losses = F.softplus(-logits[:, :1]).sum(1) + (F.softplus(logits[:, 1:]) * beside[:, 1:]).sum(1)
        right = ((logits[:, :1] > logits[:, 1:]) | ~beside[:, 1:]).all(1)
        return losses, right.detach()

    def _windows(self, batch: Batch, frequency: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Inputs and their weights (P, K), targets (P, 1 + negatives), the first of which is the true one, and which
        targets count: a negative that is the true word doesn't.
        """
        tokens = batch["tokens"].cpu().numpy()
        words = batch["key"].cpu().numpy().view(np.uint64)
        kept = self._kept(tokens, words, frequency)
        near, is_near = self._around(tokens, kept, words)
        if self.method == "skip-gram":
            row, place, offset = np.nonzero(is_near)
            centre, true = tokens[row, place], near[row, place, offset]
            inputs, weights = centre[:, None], np.ones((len(row), 1), np.float32)
            number = place * near.shape[2] + offset
        else:
            row, place = np.nonzero(is_near.any(2))
            inputs, chosen = near[row, place], is_near[row, place].astype(np.float32)
            weights, true = chosen / chosen.sum(1, keepdims=True), tokens[row, place]
            number = place
        drawn = self._negatives(words, tokens.shape[1] * near.shape[2], frequency)[row, number]
        targets = np.concatenate([true[:, None], drawn], axis=1)
        beside = np.concatenate([np.ones((len(row), 1), np.bool_), drawn != true[:, None]], axis=1)
        device = batch["tokens"].device
        return (
            torch.from_numpy(inputs).to(device),
            torch.from_numpy(weights).to(device),
            torch.from_numpy(targets).to(device),
            torch.from_numpy(beside).to(device),
        )

    def _kept(self, tokens: np.ndarray, words: np.ndarray, frequency: np.ndarray) -> np.ndarray:
        """Which places hold a word that isn't passed over, (B, T)."""
        is_word = tokens >= SPECIAL
        if not self.subsample:
            return is_word
        share = np.minimum(1.0, np.sqrt(self.subsample / np.maximum(frequency, 1e-12)))[tokens]
        kept: np.ndarray = is_word & (keys.uniform(keys.derive(words, "subsample"), (tokens.shape[1],)) < share)
        return kept

    def _around(self, tokens: np.ndarray, kept: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The words beside each place, (B, T, 2 W), and which of them count."""
        length = tokens.shape[1]
        widths = 1 + (keys.uniform(keys.derive(words, "window"), (length,)) * self.window).astype(np.int64)
        offsets = np.array([o for o in range(-self.window, self.window + 1) if o])
        places = np.arange(length)[:, None] + offsets  # (T, 2 W)
        inside = (places >= 0) & (places < length)
        places = places.clip(0, length - 1)
        near = tokens[:, places]
        counts = kept[:, places] & inside & kept[..., None] & (np.abs(offsets) <= widths[..., None])
        return near, counts

    def _negatives(self, words: np.ndarray, count: int, frequency: np.ndarray) -> np.ndarray:
        """Words drawn by frequency, (B, count, negatives)."""
        ends = np.cumsum(frequency**_POWER)
        drawn: np.ndarray = keys.uniform(keys.derive(words, "negatives"), (count * self.negatives,)) * ends[-1]
        found = np.searchsorted(ends, drawn, side="right").clip(max=len(ends) - 1)
        shaped: np.ndarray = found.reshape(len(words), count, self.negatives).astype(np.int64)
        return shaped
