"""Classification: one label a sample, by cross-entropy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dlsvc.errors import UsageError
from dlsvc.metrics.classification import confusion, macro_f1, top_k
from dlsvc.registry import register_task
from dlsvc.tasks.attended import patch_attention
from dlsvc.tasks.base import (
    Batch,
    Losses,
    Metrics,
    Modules,
    Prediction,
    Report,
    Task,
    as_pictures,
    dummy_samples,
    in_colour,
    model_inputs,
    stretched,
)

# Top-5 accuracy says something from six classes on.
_TOP = 5
# Classes of which it is counted which is taken for which: a table of more is mostly zeros, and is kept for each batch.
_MOST_TABLED = 128
_NUM_PICTURES = 16
# Steps of a spectrogram for a model that takes any number.
_DUMMY_STEPS = 20


@register_task(
    "classification",
    metrics=("accuracy", "loss", "macro_f1", "top5"),
    reads=("image|video|features|series|spectrogram|tokens", "label"),
    mixes=True,
)
class Classification(Task):
    """Softmax cross-entropy over logits (B, num_classes). Metrics: accuracy, top5 (six classes or more), macro_f1,
    loss.
    """

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        if not 0.0 <= label_smoothing < 1.0:
            raise UsageError(f"label_smoothing must be in [0, 1), not {label_smoothing}")
        self.label_smoothing = label_smoothing

    def losses(self, modules: Modules, batch: Batch, phase: str) -> tuple[Losses, Report]:
        logits = _logits(modules, batch)
        # Mixed samples have class probabilities for a target.
        target = batch.get("target", batch["label"])
        loss = F.cross_entropy(logits, target, label_smoothing=self.label_smoothing)
        accuracy = (logits.detach().argmax(1) == batch["label"]).float().mean()
        return {"cross_entropy": loss}, {"accuracy": accuracy}

    def measure(self, modules: Modules, batch: Batch, metrics: Metrics) -> None:
        logits, label = _logits(modules, batch), batch["label"]
        num_classes = logits.shape[1]
        guess = logits.argmax(1)
        metrics.add(
            count=len(label),
            loss=F.cross_entropy(logits.double(), label, reduction="sum"),
            correct=torch.bincount(label[guess == label], minlength=num_classes),
            actual=torch.bincount(label, minlength=num_classes),
            guessed=torch.bincount(guess, minlength=num_classes),
        )
        if num_classes <= _MOST_TABLED:
            metrics.add(confusion=confusion(label, guess, num_classes))
        if num_classes > _TOP:
            metrics.add(top5=top_k(logits, label, _TOP))

    def compute(self, metrics: Metrics) -> dict[str, float]:
        sums, count = metrics.sums, float(metrics.sums["count"])
        found = {
            "accuracy": float(sums["correct"].sum()) / count,
            "loss": float(sums["loss"]) / count,
            "macro_f1": macro_f1(sums["correct"], sums["actual"], sums["guessed"]),
        }
        if "top5" in sums:
            found["top5"] = float(sums["top5"]) / count
        return found

    def predict(self, modules: Modules, batch: Batch) -> list[Prediction]:
        scores = _logits(modules, batch).softmax(1).cpu().numpy()
        return [{"label_id": int(row.argmax()), "scores": row} for row in scores]

    def pictures(self, modules: Modules, batch: Batch) -> dict[str, np.ndarray]:
        """The images that the model is most sure of and wrong about; and of one that attends to patches, images with
        what it attended to.
        """
        if "image" not in batch:
            return {}
        scores, guess = _logits(modules, batch).softmax(1).max(1)
        wrong = torch.nonzero(guess != batch["label"]).flatten()
        worst = wrong[scores[wrong].argsort(descending=True)][:_NUM_PICTURES]
        found = {"confident_mistakes": as_pictures(stretched(batch["image"][worst]))} if len(worst) else {}
        image = batch["image"][:_NUM_PICTURES]
        seen = patch_attention(modules["model"], image, stretched(image))
        return (
            {**found, "attention": as_pictures(torch.cat([in_colour(stretched(image)), seen]))} if len(seen) else found
        )

    def dummy_batch(self, num_samples: int, model_args: Mapping[str, Any]) -> Batch:
        label = torch.randint(0, int(model_args["num_classes"]), (num_samples,))
        return {**_dummy_input(num_samples, model_args), "label": label, **dummy_samples(num_samples)}


def _logits(modules: Modules, batch: Batch) -> Tensor:
    """(B, num_classes), float32 whatever the precision of the forward pass."""
    logits: Tensor = modules["model"](*model_inputs(batch))
    return logits.float()


def _dummy_input(num_samples: int, model_args: Mapping[str, Any]) -> Batch:
    if "num_bins" in model_args:
        shape = (int(model_args["num_bins"]), int(model_args.get("num_steps", _DUMMY_STEPS)))
        return {"spectrogram": torch.randn(num_samples, 1, *shape)}
    if "num_frames" in model_args:
        size = int(model_args["image_size"])
        return {
            "video": torch.randn(num_samples, int(model_args["in_channels"]), int(model_args["num_frames"]), size, size)
        }
    if "in_channels" in model_args and "image_size" not in model_args:
        return {
            "series": torch.randn(
                num_samples, int(model_args["in_channels"]), int(model_args.get("num_steps", _DUMMY_STEPS))
            )
        }
    if "vocab_size" in model_args:
        length = int(model_args["max_seq_len"])
        tokens = torch.randint(1, int(model_args["vocab_size"]), (num_samples, length))
        keep = torch.arange(length) < torch.randint(1, length + 1, (num_samples, 1))
        return {"tokens": tokens * keep, "attention_mask": keep}
    if "image_size" in model_args:
        size = int(model_args["image_size"])
        return {"image": torch.randn(num_samples, int(model_args["in_channels"]), size, size)}
    width = model_args["num_features"] if "num_features" in model_args else model_args["in_features"]
    return {"features": torch.randn(num_samples, int(width))}
