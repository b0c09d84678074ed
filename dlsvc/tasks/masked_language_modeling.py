"""Masked language modelling: words are hidden, and guessed from those around them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.augment import keys
from dlsvc.errors import UsageError
from dlsvc.registry import register_task
from dlsvc.tasks.base import Batch, Losses, Metrics, Modules, Prediction, Report, Task, dummy_samples
from dlsvc.tasks.language_modeling import dummy_texts, token_losses

if TYPE_CHECKING:
    from dlsvc.data.preprocess import Preprocess

# Of the hidden tokens so many show the mask, and so many another word; the rest show themselves (section 3.1).
_MASKED, _CHANGED = 0.8, 0.1
_GUESSES = 5


@register_task(
    "masked-language-modeling",
    metrics=("masked_perplexity", "masked_accuracy"),
    reads=("tokens", "attention_mask"),
)
class MaskedLanguageModeling(Task):
    """Cross-entropy of `share` of the tokens (Devlin et al. 2019, section 3.1), which belong to the sample's key.

    `mask_id` is the token that hides another, the vocabulary's own: 4 of subwords that are fitted here, 103 in BERT's.
    The loss is divided by samples, length and share, so that every hidden token weighs the same. `predict` gives the
    text's vector, of length 1, and the likeliest tokens at the first mask, where there is one. Metrics, of hidden
    tokens: masked_perplexity, masked_accuracy.
    """

    def __init__(self, *, share: float = 0.15, mask_id: int = 4) -> None:
        if not 0 < share <= 1 or mask_id < 0:
            raise UsageError(f"share must be in (0, 1] and mask_id at least 0, not {share} and {mask_id}")
        self.share, self.mask_id, self.vocab_size = share, mask_id, mask_id + 2

    def modules(self, model: nn.Module) -> dict[str, nn.Module]:
        """Also notes what wrapped modules no longer show."""
        self.vocab_size = model.get_submodule("tokens").num_embeddings  # type: ignore[assignment]
        return {"model": model}

    def misfits(self, data: Preprocess, model_args: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        yield from super().misfits(data, model_args)
        if data.text is None:
            return
        special = data.text.tokenizer.special
        if special.mask == special.unk:
            yield (
                "data.text",
                "the vocabulary has no token that hides a word; give tokenizer: wordpiece or bpe, or a published "
                "vocabulary that has [MASK] or <mask>",
            )
        elif special.mask != self.mask_id:
            yield "task.args.mask_id", f"is {self.mask_id}, and the vocabulary's mask is {special.mask}"

    def losses(self, modules: Modules, batch: Batch, phase: str) -> tuple[Losses, Report]:
        losses, counted, hits = self._guessed(modules, batch)
        total = counted.sum().clamp(min=1)
        return {"masked": losses.sum() / (losses.numel() * self.share)}, {"masked_accuracy": hits.sum() / total}

    def measure(self, modules: Modules, batch: Batch, metrics: Metrics) -> None:
        losses, counted, hits = self._guessed(modules, batch)
        metrics.add(loss=losses.double().sum(), tokens=counted.sum(), hits=hits.sum())

    def compute(self, metrics: Metrics) -> dict[str, float]:
        sums = metrics.sums
        tokens = np.maximum(sums["tokens"], 1)
        loss = float(sums["loss"] / tokens)
        return {"masked_perplexity": math.exp(min(loss, 700.0)), "masked_accuracy": float(sums["hits"] / tokens)}

    def predict(self, modules: Modules, batch: Batch) -> list[Prediction]:
        """`embedding` (D,); `guesses` (5,) ids and their `guess_scores`, where the text has a mask."""
        vectors = self.vectors(modules, batch).cpu().numpy()
        rows: list[Prediction] = [{"embedding": vector} for vector in vectors]
        hidden = batch["tokens"] == self.mask_id
        if not hidden.any() or modules["model"].head is None:
            return rows
        logits = modules["model"](batch["tokens"], batch["attention_mask"]).float()
        first = hidden.int().argmax(1)
        scores, ids = (
            logits[torch.arange(len(first), device=first.device), first].softmax(1).topk(min(_GUESSES, logits.shape[2]))
        )
        for row, has, score, guess in zip(rows, hidden.any(1).tolist(), scores, ids, strict=True):
            if has:
                row |= {"guesses": guess.cpu().numpy(), "guess_scores": score.cpu().numpy()}
        return rows

    def vectors(self, modules: Modules, batch: Batch) -> Tensor:
        encode: Any = modules["model"].encode
        return F.normalize(encode(batch["tokens"], batch["attention_mask"]), dim=1)

    def dummy_batch(self, num_samples: int, model_args: Mapping[str, Any]) -> Batch:
        tokens, keep = dummy_texts(num_samples, int(model_args["vocab_size"]), int(model_args["max_seq_len"]))
        return {"tokens": tokens, "attention_mask": keep, **dummy_samples(num_samples)}

    def _guessed(self, modules: Modules, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The loss of each hidden token, 0 of others; which are hidden; and which were guessed right. (B, T)"""
        tokens, keep = batch["tokens"], batch["attention_mask"]
        chosen, kind, other = (torch.from_numpy(one).to(tokens.device) for one in self._draws(batch))
        # What begins and ends a text is no word.
        last = keep.sum(1, keepdim=True) - 1
        places = torch.arange(tokens.shape[1], device=tokens.device)
        hidden = keep & (places > 0) & (places < last) & (chosen < self.share)
        shown = torch.where(kind < _MASKED, self.mask_id, torch.where(kind < _MASKED + _CHANGED, other, tokens))
        logits = modules["model"](torch.where(hidden, shown, tokens), keep)
        return token_losses(logits, tokens, hidden)

    def _draws(self, batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each token whether it is hidden, how, and by which word it might be replaced."""
        words = batch["key"].cpu().numpy().view(np.uint64)
        shape = (batch["tokens"].shape[1],)
        chosen, kind = (keys.uniform(keys.derive(words, name), shape) for name in ("hidden", "hidden-as"))
        # Words come after the special tokens, the mask among them; where it is the last of all, before it.
        least, most = self.mask_id + 1, self.vocab_size - 1
        if least > most:
            least, most = 0, self.mask_id - 1
        other = keys.integers(keys.derive(words, "hidden-by"), least, most, shape)
        return chosen, kind, other
