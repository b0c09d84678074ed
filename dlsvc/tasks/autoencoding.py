"""Reconstruction through a code of fixed numbers: an autoencoder's objective."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dlsvc.errors import UsageError, did_you_mean
from dlsvc.registry import register_task
from dlsvc.tasks.base import (
    UNIT_RANGE,
    Batch,
    Losses,
    Metrics,
    Modules,
    Prediction,
    Report,
    Task,
    as_pictures,
    dummy_samples,
)
from dlsvc.tasks.reconstruction import LIKELIHOODS, pixel_loss

_NUM_PICTURES = 16


@register_task("autoencoding", metrics=("mse", "reconstruction_loss"), reads=("image",))
class Autoencoding(Task):
    """The negative log-likelihood of the pixels, in nats a sample: bernoulli (binary cross-entropy) or gaussian with
    unit variance (half the squared error).

    Images are in [0, 1]: give the data mean 0 and deviation 1. Metrics: reconstruction_loss, and mse a pixel.
    """

    def __init__(self, *, likelihood: Literal["bernoulli", "gaussian"] = "bernoulli") -> None:
        if likelihood not in LIKELIHOODS:
            raise UsageError(f"no likelihood is called {likelihood!r}{did_you_mean(likelihood, LIKELIHOODS)}")
        self.likelihood = likelihood

    @property
    def image_range(self) -> tuple[float, float]:
        return UNIT_RANGE

    def losses(self, modules: Modules, batch: Batch, phase: str) -> tuple[Losses, Report]:
        logits = modules["model"](batch["image"])["reconstruction"]
        loss = pixel_loss(logits, batch["image"], self.likelihood).mean()
        return {"reconstruction_loss": loss}, {}

    def measure(self, modules: Modules, batch: Batch, metrics: Metrics) -> None:
        image = batch["image"]
        logits = modules["model"](image)["reconstruction"]
        squared = (logits.float().sigmoid() - image).square().flatten(1).mean(1)
        metrics.add(
            count=len(image),
            reconstruction=pixel_loss(logits, image, self.likelihood).double().sum(),
            squared=squared.double().sum(),
        )

    def compute(self, metrics: Metrics) -> dict[str, float]:
        sums, count = metrics.sums, float(metrics.sums["count"])
        return {"mse": float(sums["squared"]) / count, "reconstruction_loss": float(sums["reconstruction"]) / count}

    def predict(self, modules: Modules, batch: Batch) -> list[Prediction]:
        """The image rebuilt, and its code."""
        outputs = modules["model"](batch["image"])
        images = as_pictures(outputs["reconstruction"].float().sigmoid())
        codes = outputs["code"].float().cpu().numpy()
        return [{"reconstruction": image, "embedding": code} for image, code in zip(images, codes, strict=True)]

    def vectors(self, modules: Modules, batch: Batch) -> Tensor:
        code: Tensor = modules["model"](batch["image"])["code"].float()
        return code

    def pictures(self, modules: Modules, batch: Batch) -> dict[str, np.ndarray]:
        few = {name: value[:_NUM_PICTURES] for name, value in batch.items()}
        rebuilt = np.stack([row["reconstruction"] for row in self.predict(modules, few)])
        return {"originals": as_pictures(few["image"]), "reconstructions": rebuilt}

    def dummy_batch(self, num_samples: int, model_args: Mapping[str, Any]) -> Batch:
        size = int(model_args["image_size"])
        image = torch.rand(num_samples, int(model_args["in_channels"]), size, size).round()
        return {"image": image, **dummy_samples(num_samples)}
