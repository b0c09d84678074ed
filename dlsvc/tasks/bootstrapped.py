"""BLIP's three objectives at once: images and texts meet in one space, are told to match or not, and texts are written
of images.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.errors import UsageError
from dlsvc.registry import register_task
from dlsvc.tasks.base import (
    Batch,
    Companion,
    Losses,
    Metrics,
    Modules,
    Prediction,
    Report,
    Setting,
    Task,
    sample_uniform,
)
from dlsvc.tasks.captioning import Captioner, caption_scores
from dlsvc.tasks.contrastive import Contrastive, contrast, recalls
from dlsvc.tasks.language_modeling import token_losses
from dlsvc.tasks.momentum import FeatureQueue, contrast_with_memory

# Of each pair: itself, its image with another text, its text with another image.
_PAIRS = 3


@register_task(
    "bootstrapped",
    metrics=("chrf", "bleu", "image_to_text_r*", "text_to_image_r*", "perplexity"),
    reads=("image", "tokens", "attention_mask"),
    couples_samples=True,
)
class Bootstrapped(Task):
    """Contrast over the whole global batch, matching against hard negatives of the own atom, and captioning (Li et al.
    2022, section 3.2), each of weight 1. Negatives are the likelier the more alike they are, by their logits times
    `hardness`: at 0 all are alike, which is what a young model can learn from.

    With a `queue_size` the contrast is that of a momentum encoder with a queue and soft targets (He et al. 2020; Li et
    al. 2021, sections 3.2 and 3.3). A copy of the model, without dropout, becomes `momentum` times itself and the rest
    the model after each step, and embeds every batch too. Each image finds its text among the copy's of this batch and
    of the `queue_size` samples before it, as far as there were any, and each text its image. A share of the target,
    `distillation` once `distillation_warmup` steps are done, is what the copy itself finds alike. A rank keeps one more
    model (FSDP its part of it) and the queue's embeddings. At 0, the default, images and texts are contrasted within
    the batch, and the other three arguments are refused: in a run of few steps what an older model made of others
    misleads retrieval (blip-emoji's image_to_text_r10 is 0.175 so, and 0.077 with a queue of 1,024; README.md).

    Metrics: chrf and bleu of captions, written with `num_beams`, of the first `scored` samples (null: all); recalls of
    each image's and each text's partner in the split; perplexity of captions.
    """

    # A text and an image that don't belong to a sample's are another's of its atom.
    least_atom = 2

    def __init__(
        self,
        *,
        hardness: float = 1.0,
        label_smoothing: float = 0.1,
        num_beams: int = 3,
        length_penalty: float = 1.0,
        scored: int | None = None,
        queue_size: int = 0,
        momentum: float = 0.995,
        distillation: float = 0.4,
        distillation_warmup: int = 0,
    ) -> None:
        if not 0 <= label_smoothing < 1 or hardness < 0:
            raise UsageError(
                f"label_smoothing must be in [0, 1) and hardness at least 0, not {label_smoothing} and {hardness}"
            )
        if queue_size < 0 or distillation_warmup < 0:
            raise UsageError(
                f"queue_size and distillation_warmup must be at least 0, not {queue_size} and {distillation_warmup}"
            )
        if not 0 <= momentum < 1 or not 0 <= distillation <= 1:
            raise UsageError(
                f"momentum must be in [0, 1) and distillation in [0, 1], not {momentum} and {distillation}"
            )
        if not queue_size and (momentum, distillation, distillation_warmup) != (0.995, 0.4, 0):
            raise UsageError(
                "without a queue, momentum, distillation and distillation_warmup would be ignored; give queue_size too"
            )
        self.queue_size = queue_size
        self.momentum = momentum
        self.distillation = distillation
        self.distillation_warmup = distillation_warmup
        self.hardness = hardness
        self.label_smoothing = label_smoothing
        self.captioner = Captioner(num_beams, length_penalty, scored)

    @property
    def writes(self) -> bool:
        return True

    @property
    def settings(self) -> Mapping[str, Setting]:
        return self.captioner.settings

    def companions(self, model: nn.Module) -> dict[str, Companion]:
        """With a queue: `momentum`, which follows the model, and `queue`."""
        if not self.queue_size:
            return {}
        whole: Any = model
        encoder = copy.deepcopy(model).eval().requires_grad_(False)
        return {
            "momentum": Companion(encoder, follows="model", decay=self.momentum),
            "queue": Companion(FeatureQueue(self.queue_size, whole.vectors_shape)),
        }

    def references(self, modules: Modules, batch: Batch) -> dict[str, Tensor]:
        """The momentum encoder's embeddings, (B, E) each."""
        if not self.queue_size:
            return {}
        found = modules["momentum"](batch["image"], batch["tokens"], batch["attention_mask"])
        return {"image_momentum": found["image_embeds"], "text_momentum": found["text_embeds"]}

    def memory(self, modules: Modules) -> dict[str, Tensor]:
        """The queue's embeddings (K, E), and the share of a target that the momentum encoder gives."""
        if not self.queue_size:
            return {}
        queue: Any = modules["queue"]
        images, texts = queue.held()
        risen = ((queue.steps + 1) / (self.distillation_warmup + 1)).clamp(max=1)
        return {"image_queue": images, "text_queue": texts, "softness": self.distillation * risen}

    def remember(self, modules: Modules, references: dict[str, Tensor]) -> None:
        if self.queue_size:
            queue: Any = modules["queue"]
            queue.push(references["image_momentum"], references["text_momentum"])

    def features(self, modules: Modules, batch: Batch) -> dict[str, Tensor]:
        """Embeddings (B, E), the scale, and of each sample its losses and how many of its matches are right, (B, 1)."""
        tokens, keep = batch["tokens"], batch["attention_mask"]
        draws = sample_uniform(batch, "negative-text"), sample_uniform(batch, "negative-image")
        found: dict[str, Tensor] = modules["model"](batch["image"], tokens, keep, draws=draws, hardness=self.hardness)
        losses, counted, _ = token_losses(found.pop("caption_logits"), tokens[:, 1:], keep[:, 1:], self.label_smoothing)
        matched, right = _matches(found.pop("match_logits"))
        return {
            **found,
            "caption_loss": losses.sum(1, keepdim=True) / counted.sum(1, keepdim=True),
            "match_loss": matched,
            "match_right": right,
        }

    def coupled_losses(self, features: dict[str, Tensor]) -> tuple[Losses, Report]:
        losses, report = contrast_with_memory(features) if self.queue_size else contrast(features)
        losses |= {name: features[name].mean() for name in ("match_loss", "caption_loss")}
        return losses, {**report, "match_accuracy": features["match_right"].detach().mean()}

    def losses(self, modules: Modules, batch: Batch, phase: str) -> tuple[Losses, Report]:
        """The loss within this batch alone."""
        with torch.no_grad():
            beside = {**self.references(modules, batch), **self.memory(modules)}
        return self.coupled_losses({**self.features(modules, batch), **beside})

    def measure(self, modules: Modules, batch: Batch, metrics: Metrics) -> None:
        tokens, keep = batch["tokens"], batch["attention_mask"]
        model: Any = modules["model"]
        found = model(batch["image"], tokens, keep)
        logits = model.write(model.vision_encoder(batch["image"]), tokens[:, :-1], keep[:, :-1])
        losses, counted, _ = token_losses(logits, tokens[:, 1:], keep[:, 1:])
        metrics.collect(batch["id"], image_embeds=found["image_embeds"], text_embeds=found["text_embeds"])
        metrics.add(loss=losses.double().sum(), tokens=counted.sum())
        self.captioner.measure(model, batch, tokens, metrics)

    def compute(self, metrics: Metrics) -> dict[str, float]:
        sums = metrics.sums
        return {
            **caption_scores(metrics, self.read_tokens),
            **recalls(metrics),
            "perplexity": math.exp(min(float(sums["loss"] / sums["tokens"]), 700.0)),
        }

    def predict(self, modules: Modules, batch: Batch) -> list[Prediction]:
        """Of an image alone `written`, the ids of its caption; of a text alone `embedding`; of both `match`, the
        probability that they belong together.
        """
        model: Any = modules["model"]
        if "image" not in batch:
            found = model(None, batch["tokens"], batch["attention_mask"])["text_embeds"]
            return [{"embedding": row} for row in found.cpu().numpy()]
        if "tokens" in batch:
            states = model.vision_encoder(batch["image"])
            match = model.match(states, batch["tokens"], batch["attention_mask"]).float().softmax(1)[:, 1]
            return [{"match": value} for value in match.tolist()]
        return [{"written": row} for row in self.captioner.write_for(model, batch).cpu().numpy()]

    def samples(self, modules: Modules, batch: Batch) -> list[dict[str, str | np.ndarray]]:
        return self.captioner.samples(self, modules["model"], batch)

    def vectors(self, modules: Modules, batch: Batch) -> Tensor:
        """The images' embeddings, or where there are none the texts': both lie in one space."""
        found = modules["model"](batch.get("image"), batch.get("tokens"), batch.get("attention_mask"))
        vectors = found["image_embeds" if "image" in batch else "text_embeds"].float()
        # Of an image that has several their mean.
        return vectors if vectors.dim() == 2 else F.normalize(vectors.mean(1), dim=-1)

    def dummy_batch(self, num_samples: int, model_args: Mapping[str, Any]) -> Batch:
        return Contrastive().dummy_batch(num_samples, {**model_args, "text": {"eos_id": 2, **model_args["text"]}})


def _matches(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The loss and the share of right ones of each sample's three pairs, (B, 3, 2) -> (B, 1) twice."""
    target = torch.tensor([1, 0, 0], device=logits.device).expand(len(logits), -1)
    losses = F.cross_entropy(logits.float().flatten(0, 1), target.flatten(), reduction="none").view(-1, _PAIRS)
    right = (logits.detach().argmax(-1) == target).float()
    return losses.mean(1, keepdim=True), right.mean(1, keepdim=True)
