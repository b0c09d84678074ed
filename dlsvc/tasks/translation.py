"""Translation: a text is read, and another is written token by token."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlsvc.errors import UsageError
from dlsvc.generation import beam_search
from dlsvc.nn.attention import watched
from dlsvc.registry import register_task
from dlsvc.tasks.attended import Alignment, alignment_pictures
from dlsvc.tasks.base import Batch, Losses, Metrics, Modules, Prediction, Report, Setting, Task, dummy_samples
from dlsvc.tasks.language_modeling import dummy_texts, token_losses

MOST_BEAMS = 64
# Either way.
MOST_LENGTH_PENALTY = 10.0
# What a request may set of a beam search.
BEAM_SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {
        "num_beams": Setting(1, MOST_BEAMS, whole=True),
        "length_penalty": Setting(-MOST_LENGTH_PENALTY, MOST_LENGTH_PENALTY),
    }
)
# Texts short enough for their words to be read in a picture.
_ALIGNED_TOKENS, _ALIGNMENTS = 20, 4
# What begins or ends a text.
_UNREADABLE = "·"


@register_task(
    "translation",
    metrics=("chrf", "bleu", "perplexity", "token_accuracy"),
    reads=("tokens", "attention_mask", "target_tokens", "target_attention_mask"),
)
class Translation(Task):
    """Cross-entropy of each token of the target given the source and those before it, with label smoothing; a beam of
    `num_beams` writes (Vaswani et al. 2017, sections 5.4 and 6.1; scores are divided by length^length_penalty).

    The loss is the sum over tokens divided by samples times length, so that every token weighs the same. Metrics: chrf
    and bleu as sacrebleu computes them of whole texts, on the first `scored` samples of a split (writing takes time;
    null: all); perplexity and token_accuracy on all.
    """

    def __init__(
        self,
        *,
        label_smoothing: float = 0.1,
        num_beams: int = 4,
        length_penalty: float = 0.6,
        scored: int | None = None,
    ) -> None:
        if not 0 <= label_smoothing < 1 or not 1 <= num_beams <= MOST_BEAMS or (scored is not None and scored < 1):
            raise UsageError(
                f"label_smoothing must be in [0, 1), num_beams in 1 to {MOST_BEAMS} and scored at least 1, not "
                f"{label_smoothing}, {num_beams} and {scored}"
            )
        check_length_penalty(length_penalty)
        self.label_smoothing, self.num_beams, self.length_penalty = label_smoothing, num_beams, length_penalty
        self.scored = scored

    @property
    def writes(self) -> bool:
        return True

    @property
    def settings(self) -> Mapping[str, Setting]:
        return BEAM_SETTINGS

    def losses(self, modules: Modules, batch: Batch, phase: str) -> tuple[Losses, Report]:
        losses, counted, hits = self._by_token(modules, batch, self.label_smoothing)
        return {"next_token": losses.sum() / losses.numel()}, {"token_accuracy": hits.sum() / counted.sum()}

    def measure(self, modules: Modules, batch: Batch, metrics: Metrics) -> None:
        losses, counted, hits = self._by_token(modules, batch)
        metrics.add(loss=losses.double().sum(), tokens=counted.sum(), hits=hits.sum())
        chosen = batch["id"] < (self.scored or torch.inf)
        if chosen.any():
            part = {name: value[chosen] for name, value in batch.items()}
            written = self._written(modules, part, part["target_tokens"].shape[1], self.num_beams, self.length_penalty)
            metrics.collect(part["id"], written=written, wanted=part["target_tokens"][:, 1:])

    def compute(self, metrics: Metrics) -> dict[str, float]:
        sums = metrics.sums
        found = {
            "perplexity": math.exp(min(float(sums["loss"] / sums["tokens"]), 700.0)),
            "token_accuracy": float(sums["hits"] / sums["tokens"]),
        }
        written, wanted = (self._texts(metrics.rows(name)) for name in ("written", "wanted"))
        return scores(written, wanted) | found

    def predict(self, modules: Modules, batch: Batch) -> list[Prediction]:
        """`written`: the ids of the tokens of each translation, int64, up to and with the one that ends it."""
        beams = int(batch["num_beams"][0]) if "num_beams" in batch else self.num_beams
        penalty = float(batch["length_penalty"][0]) if "length_penalty" in batch else self.length_penalty
        model: Any = modules["model"]
        written = self._written(modules, batch, model.max_seq_len, beams, penalty)
        return [{"written": row} for row in written.cpu().numpy()]

    def vectors(self, modules: Modules, batch: Batch) -> Tensor:
        """The mean of what the encoder makes of a text's tokens."""
        model: Any = modules["model"]
        weight = batch["attention_mask"][..., None].float()
        states: Tensor = model.encode(batch["tokens"], batch["attention_mask"]).float()
        return (states * weight).sum(1) / weight.sum(1)

    def samples(self, modules: Modules, batch: Batch) -> list[dict[str, str | np.ndarray]]:
        written = [torch.from_numpy(row["written"]) for row in self.predict(modules, batch)]
        columns = self.read(batch["tokens"]), self.read(torch.stack(written)), self.read(batch["target_tokens"])
        return [{"source": a, "written": b, "reference": c} for a, b, c in zip(*columns, strict=True)]

    def pictures(self, modules: Modules, batch: Batch) -> dict[str, np.ndarray]:
        """Which words of a source those of its translation were read from: the mean over heads of the last layer but
        one, which aligns best (Garg et al. 2019, section 4.1).
        """
        short = (batch["attention_mask"].sum(1) <= _ALIGNED_TOKENS).nonzero()[:_ALIGNMENTS, 0]
        if not len(short):
            return {}
        part = {name: value[short] for name, value in batch.items()}
        written = torch.from_numpy(np.stack([row["written"] for row in self.predict(modules, part)]))
        read = torch.cat([part["tokens"][:, :1], written.to(part["tokens"])], dim=1)[:, : _ALIGNED_TOKENS + 1]
        with watched(modules["model"]) as seen:
            modules["model"](part["tokens"], part["attention_mask"], read[:, :-1])
        layers = [calls[0] for name, calls in seen.items() if name.endswith("context_attention")]
        weights = layers[-2:][0].mean(1).float().cpu().numpy()  # (B, T, S)
        found = []
        counts = part["attention_mask"].sum(1).tolist()
        for row, source, target, count in zip(
            weights, part["tokens"].tolist(), read[:, 1:].tolist(), counts, strict=True
        ):
            end = source[count - 1]
            length = target.index(end) + 1 if end in target else len(target)
            words = self._words(source[:count]), self._words(target[:length])
            found.append(Alignment(row[:length, :count], *words))
        return {"alignment": alignment_pictures(found)}

    def _words(self, tokens: list[int]) -> list[str]:
        """Each token as it reads alone."""
        return [self.read_tokens([token]).strip() or _UNREADABLE for token in tokens]

    def dummy_batch(self, num_samples: int, model_args: Mapping[str, Any]) -> Batch:
        sizes = int(model_args["vocab_size"]), int(model_args["max_seq_len"])
        (tokens, keep), (target, target_keep) = (dummy_texts(num_samples, *sizes) for _ in range(2))
        texts = {
            "tokens": tokens,
            "attention_mask": keep,
            "target_tokens": target,
            "target_attention_mask": target_keep,
        }
        return {**texts, **dummy_samples(num_samples)}

    def _by_token(self, modules: Modules, batch: Batch, smoothing: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
        target, keep = batch["target_tokens"], batch["target_attention_mask"]
        logits = modules["model"](batch["tokens"], batch["attention_mask"], target[:, :-1], keep[:, :-1])
        return token_losses(logits, target[:, 1:], keep[:, 1:], smoothing)

    def _written(self, modules: Modules, batch: Batch, length: int, num_beams: int, penalty: float) -> Tensor:
        """(B, N)"""
        model: Any = modules["model"]
        keep = batch["attention_mask"]
        end = batch["tokens"].gather(1, keep.sum(1, keepdim=True) - 1)[:, 0]
        source = model.encode(batch["tokens"], keep).repeat_interleave(num_beams, dim=0)
        source_mask, memories = keep.repeat_interleave(num_beams, dim=0), model.memories()
        begin = batch["tokens"][:, 0].repeat_interleave(num_beams)
        place = -1

        def step(token: Tensor | None) -> Tensor:
            nonlocal place
            place += 1
            token = begin if token is None else token
            logits: Tensor = model.decode(token[:, None], source, source_mask, start=place, memories=memories)
            return logits[:, -1]

        def reorder(rows: Tensor) -> None:
            for own, _ in memories:  # the beams of a text share its source
                own.select(rows)

        return beam_search(step, reorder, end=end, num_tokens=length - 1, num_beams=num_beams, length_penalty=penalty)

    def _texts(self, rows: Any) -> list[str]:
        return [self.read_tokens(row.astype("int64").tolist()) for row in rows]


def scores(written: Sequence[str], wanted: Sequence[str]) -> dict[str, float]:
    """chrF (Popović 2015) and BLEU (Papineni et al. 2002) of a corpus, from 0 to 100."""
    from sacrebleu.metrics import BLEU, CHRF

    measures: dict[str, Callable[[], Any]] = {"chrf": CHRF, "bleu": BLEU}
    return {name: float(make().corpus_score(list(written), [list(wanted)]).score) for name, make in measures.items()}


def check_length_penalty(length_penalty: float) -> None:
    """Raises UsageError for one that no request may ask for."""
    if abs(length_penalty) > MOST_LENGTH_PENALTY:
        most = f"{MOST_LENGTH_PENALTY:g}"
        raise UsageError(f"length_penalty must be in -{most} to {most}, not {length_penalty}")
