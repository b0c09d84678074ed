"""Segmentation: a class for every pixel, by cross-entropy and soft Dice.

B batch, K classes, H and W of the image, h and w of the logits: a network without padding gives a smaller map, which
lies in the middle of the image.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dlsvc.errors import UsageError
from dlsvc.metrics.classification import confusion, intersection_over_union
from dlsvc.registry import register_task
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
    stretched,
)

_NUM_PICTURES = 16
# Added above and below in Dice: a class that a picture lacks then counts as found when no pixel is taken for it.
_SMOOTH = 1.0
# Neighbouring class numbers get hues that are far apart.
_GOLDEN_RATIO = 0.618034


@register_task("segmentation", metrics=("miou", "pixel_accuracy", "loss", "iou_*"), reads=("image", "mask"))
class Segmentation(Task):
    """Cross-entropy a pixel over logits (B, K, h, w), and 1 - Dice (Milletari, Navab and Ahmadi, V-Net, 2016), each
    with its weight. Metrics: miou, the mean over classes that occur or were guessed; iou_K of each of them;
    pixel_accuracy; loss, the cross-entropy.
    """

    def __init__(self, *, cross_entropy_weight: float = 1.0, dice_weight: float = 1.0) -> None:
        if min(cross_entropy_weight, dice_weight) < 0 or cross_entropy_weight + dice_weight == 0:
            raise UsageError(
                "cross_entropy_weight and dice_weight must be at least 0 and not both 0, not "
                f"{cross_entropy_weight} and {dice_weight}"
            )
        self.cross_entropy_weight = cross_entropy_weight
        self.dice_weight = dice_weight

    def losses(self, modules: Modules, batch: Batch, phase: str) -> tuple[Losses, Report]:
        logits = _logits(modules, batch)
        mask = centre(batch["mask"], logits)
        losses = {
            "cross_entropy": self.cross_entropy_weight * _cross_entropy(logits, mask),
            "dice_loss": self.dice_weight * dice_loss(logits, mask).mean(),
        }
        accuracy = (logits.detach().argmax(1) == mask).float().mean()
        return losses, {"pixel_accuracy": accuracy}

    def measure(self, modules: Modules, batch: Batch, metrics: Metrics) -> None:
        logits = _logits(modules, batch)
        mask = centre(batch["mask"], logits)
        metrics.add(
            confusion=confusion(mask, logits.argmax(1), logits.shape[1]),
            loss=_cross_entropy(logits.double(), mask, reduction="sum"),
        )

    def compute(self, metrics: Metrics) -> dict[str, float]:
        table = metrics.sums["confusion"]
        found = intersection_over_union(table)
        return {
            "miou": float(np.mean(list(found.values()))),
            "pixel_accuracy": float(np.trace(table) / table.sum()),
            "loss": float(metrics.sums["loss"] / table.sum()),
            **{f"iou_{label}": value for label, value in found.items()},
        }

    def predict(self, modules: Modules, batch: Batch) -> list[Prediction]:
        """The class of each pixel, (H, W) uint8, and its probability, float32. What a network without padding says
        nothing about, at the edge, is as the nearest that it does.
        """
        scores, labels = _spread(_logits(modules, batch).softmax(1), batch["image"]).max(1)
        maps, sure = labels.to(torch.uint8).cpu().numpy(), scores.cpu().numpy()
        return [{"mask": mask, "score": score} for mask, score in zip(maps, sure, strict=True)]

    def pictures(self, modules: Modules, batch: Batch) -> dict[str, np.ndarray]:
        few = {name: value[:_NUM_PICTURES] for name, value in batch.items()}
        images = np.broadcast_to(as_pictures(stretched(few["image"])), (*few["mask"].shape, 3))
        guess = np.stack([row["mask"] for row in self.predict(modules, few)])
        return {
            "images": images,
            "truth": _overlaid(images, few["mask"].cpu().numpy()),
            "predictions": _overlaid(images, guess),
        }

    def dummy_batch(self, num_samples: int, model_args: Mapping[str, Any]) -> Batch:
        """Four by four patches, each as bright as its class's number, and noise."""
        size, channels = int(model_args["image_size"]), int(model_args["in_channels"])
        patches = torch.randint(0, int(model_args["num_classes"]), (num_samples, 1, 4, 4))
        mask = F.interpolate(patches.float(), size=(size, size), mode="nearest")
        image = mask + 0.1 * torch.randn(num_samples, channels, size, size)
        return {"image": image, "mask": mask[:, 0].long(), **dummy_samples(num_samples)}


def _cross_entropy(logits: Tensor, mask: Tensor, reduction: str = "mean") -> Tensor:
    """Of maps (B, C, H, W), pixel by pixel: torch's own of maps adds up in an order that chance decides on GPUs."""
    return F.cross_entropy(logits.movedim(1, -1).flatten(0, -2), mask.flatten(), reduction=reduction)


def dice_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """1 - Dice a sample, the mean over classes: (B, K, h, w) and (B, h, w) -> (B,). Milletari et al. (2016), section 3:
    squares below.
    """
    probability = logits.softmax(1).flatten(2)  # (B, K, h * w)
    truth = F.one_hot(mask.flatten(1), logits.shape[1]).transpose(1, 2).to(probability.dtype)
    above = 2 * (probability * truth).sum(2) + _SMOOTH
    below = probability.square().sum(2) + truth.sum(2) + _SMOOTH
    return 1 - (above / below).mean(1)


def centre(image: Tensor, like: Tensor) -> Tensor:
    """The middle of (..., H, W), as high and wide as `like`."""
    (height, width), (h, w) = image.shape[-2:], like.shape[-2:]
    top, left = (height - h) // 2, (width - w) // 2
    return image[..., top : top + h, left : left + w]


def _logits(modules: Modules, batch: Batch) -> Tensor:
    """(B, K, h, w), float32 whatever the precision of the forward pass."""
    logits: Tensor = modules["model"](batch["image"])
    return logits.float()


def _spread(scores: Tensor, image: Tensor) -> Tensor:
    """(B, K, h, w) -> (B, K, H, W), the edge repeated."""
    down, right = (whole - part for whole, part in zip(image.shape[-2:], scores.shape[-2:], strict=True))
    return F.pad(scores, (right // 2, right - right // 2, down // 2, down - down // 2), mode="replicate")


def _overlaid(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Every class but 0 in its colour, half transparent: (B, H, W, 3) in [0, 1]."""
    palette = np.array([colorsys.hsv_to_rgb(label * _GOLDEN_RATIO % 1, 1, 1) for label in range(256)])
    coloured = 0.5 * images + 0.5 * palette[labels]
    found: np.ndarray = np.where(labels[..., None] > 0, coloured, images).astype(np.float32)
    return found
