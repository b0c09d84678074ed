"""Reconstruction through a latent: the variational lower bound."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.errors import UsageError, did_you_mean
from dlsvc.registry import register_task
from dlsvc.tasks.base import (
    SIGNED_RANGE,
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
    sample_normal,
)

LIKELIHOODS = ("bernoulli", "gaussian", "laplace")
_NUM_PICTURES = 16


@register_task(
    "reconstruction",
    metrics=("mse", "elbo", "reconstruction_loss", "kl", "latent_std"),
    reads=("image",),
    makes_samples=True,
)
class Reconstruction(Task):
    """The evidence lower bound of a variational autoencoder (Kingma and Welling, 2014, equation 10), negated, in nats a
    sample.

    Images are in [0, 1]: give the data mean 0 and deviation 1. `likelihood` of the pixels is bernoulli (binary
    cross-entropy) or gaussian with unit variance (half the squared error), both of the sigmoid of what the model gives;
    or laplace with unit scale (the absolute error) of images in [-1, 1] that it gives as they are: give the data mean
    0.5 and deviation 0.5. `beta` weighs the divergence (Higgins et al., 2017). Noise belongs to the samples. Latents
    are vectors or grids. Metrics: elbo (beta left out), reconstruction_loss, kl, mse a pixel of [0, 1] of the
    reconstruction from the mean, and latent_std, the deviation of all the latents' values.
    """

    def __init__(
        self, *, likelihood: Literal["bernoulli", "gaussian", "laplace"] = "bernoulli", beta: float = 1.0
    ) -> None:
        if likelihood not in LIKELIHOODS:
            raise UsageError(f"no likelihood is called {likelihood!r}{did_you_mean(likelihood, LIKELIHOODS)}")
        if beta < 0:
            raise UsageError(f"beta must be at least 0, not {beta}")
        self.likelihood = likelihood
        self.beta = beta
        self.latent_shape: tuple[int, ...] = ()

    @property
    def image_range(self) -> tuple[float, float]:
        return SIGNED_RANGE if self.likelihood == "laplace" else UNIT_RANGE

    def modules(self, model: nn.Module) -> dict[str, nn.Module]:
        """Also notes the latent's shape, which a wrapped module no longer shows."""
        self.latent_shape = model.latent_shape  # type: ignore[assignment]
        return {"model": model}

    def losses(self, modules: Modules, batch: Batch, phase: str) -> tuple[Losses, Report]:
        outputs = modules["model"](batch["image"], self._noise(batch))
        reconstruction = pixel_loss(outputs["reconstruction"], batch["image"], self.likelihood).mean()
        kl = kl_divergence(outputs["mean"], outputs["logvar"]).mean()
        losses = {"reconstruction_loss": reconstruction, "kl_loss": self.beta * kl}
        return losses, {"kl": kl.detach(), "elbo": -(reconstruction + kl).detach()}

    def measure(self, modules: Modules, batch: Batch, metrics: Metrics) -> None:
        image = batch["image"]
        outputs = modules["model"](image, self._noise(batch))
        mean_outputs = modules["model"](image, torch.zeros_like(outputs["mean"]))
        errors = self._shown(mean_outputs["reconstruction"]) - self._pixels(image)
        squared = errors.square().flatten(1).mean(1)
        metrics.add(
            count=len(image),
            reconstruction=pixel_loss(outputs["reconstruction"], image, self.likelihood).double().sum(),
            kl=kl_divergence(outputs["mean"], outputs["logvar"]).double().sum(),
            squared=squared.double().sum(),
            values=outputs["latent"].numel(),
            latent=outputs["latent"].double().sum(),
            latent_squared=outputs["latent"].double().square().sum(),
        )

    def compute(self, metrics: Metrics) -> dict[str, float]:
        sums, count = metrics.sums, float(metrics.sums["count"])
        values = float(sums["values"])
        reconstruction, kl = float(sums["reconstruction"]) / count, float(sums["kl"]) / count
        return {
            "elbo": -(reconstruction + kl),
            "reconstruction_loss": reconstruction,
            "kl": kl,
            "mse": float(sums["squared"]) / count,
            "latent_std": math.sqrt(float(sums["latent_squared"]) / values - (float(sums["latent"]) / values) ** 2),
        }

    def predict(self, modules: Modules, batch: Batch) -> list[Prediction]:
        """The image rebuilt from the mean of its latent, and that mean. Without images: samples from the prior, one
        a key.
        """
        if "image" not in batch:
            return [{"image": image} for image in self.generate(modules, batch["key"])]
        noise = batch["image"].new_zeros(len(batch["image"]), *self.latent_shape)
        outputs = modules["model"](batch["image"], noise)
        images = as_pictures(self._shown(outputs["reconstruction"]))
        means = outputs["mean"].flatten(1).float().cpu().numpy()
        return [{"reconstruction": image, "embedding": mean} for image, mean in zip(images, means, strict=True)]

    def vectors(self, modules: Modules, batch: Batch) -> Tensor:
        """The means of the images' latents."""
        image = batch["image"]
        mean: Tensor = modules["model"](image, image.new_zeros(len(image), *self.latent_shape))["mean"]
        return mean.flatten(1).float()

    def generate(self, modules: Modules, keys: Tensor) -> np.ndarray:
        """Samples from the prior: keys (N,) int64 -> images (N, H, W, C) in [0, 1]."""
        noise = sample_normal({"key": keys}, "sample", self.latent_shape)
        return as_pictures(self._shown(modules["model"](None, noise)["reconstruction"]))

    def pictures(self, modules: Modules, batch: Batch) -> dict[str, np.ndarray]:
        few = {name: value[:_NUM_PICTURES] for name, value in batch.items()}
        rebuilt = np.stack([row["reconstruction"] for row in self.predict(modules, few)])
        samples = self.generate(modules, few["key"])
        return {"originals": as_pictures(self._pixels(few["image"])), "reconstructions": rebuilt, "samples": samples}

    def dummy_batch(self, num_samples: int, model_args: Mapping[str, Any]) -> Batch:
        size = int(model_args["image_size"])
        return {
            "image": torch.rand(num_samples, int(model_args["in_channels"]), size, size),
            **dummy_samples(num_samples),
        }

    def _noise(self, batch: Batch) -> Tensor:
        return sample_normal(batch, "latent", self.latent_shape)

    def _shown(self, output: Tensor) -> Tensor:
        """What the model gives, as pixels in [0, 1]."""
        return self._pixels(output.float()).clamp(0, 1) if self.likelihood == "laplace" else output.float().sigmoid()

    def _pixels(self, image: Tensor) -> Tensor:
        """Images of the data, as pixels in [0, 1]."""
        return image / 2 + 0.5 if self.likelihood == "laplace" else image


def pixel_loss(output: Tensor, image: Tensor, likelihood: str) -> Tensor:
    """Negative log-likelihood a sample, (B, C, H, W) -> (B,), up to a constant."""
    if likelihood == "bernoulli":
        pixels = F.binary_cross_entropy_with_logits(output.float(), image, reduction="none")
    elif likelihood == "gaussian":
        pixels = 0.5 * (output.float().sigmoid() - image).square()
    else:
        pixels = (output.float() - image).abs()
    return pixels.flatten(1).sum(1)


def kl_divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mean, exp(logvar)) || N(0, 1)) a sample, (B, ...) -> (B,): Kingma and Welling (2014), appendix B."""
    mean, logvar = mean.float(), logvar.float()
    return -0.5 * (1 + logvar - mean.square() - logvar.exp()).flatten(1).sum(1)
