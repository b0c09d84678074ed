"""Adversarial training of a generator and a discriminator, in two phases a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
    sample_normal,
)

_NUM_PICTURES = 16


@register_task(
    "adversarial",
    metrics=("discriminator_loss", "generator_loss", "d_real", "d_fake"),
    reads=("image",),
    phases=("discriminator", "generator"),
    makes_samples=True,
)
class Adversarial(Task):
    """The non-saturating game (Goodfellow et al., 2014, section 3), on logits: softplus(-x) is -log sigmoid(x).

    Images are in [-1, 1]: give the data mean 0.5 and deviation 0.5. Noise belongs to the samples, with a stream a
    phase. Metrics over a split: d_real and d_fake (mean probabilities of being real), discriminator_loss,
    generator_loss. They tell whether the game is alive, not how good the pictures are.
    """

    def __init__(self) -> None:
        self.latent_dim = 0

    def modules(self, model: nn.Module) -> dict[str, nn.Module]:
        """Also notes the latent's size, which a wrapped module no longer shows."""
        assert isinstance(model.latent_dim, int)
        self.latent_dim = model.latent_dim
        return {"generator": model.get_submodule("generator"), "discriminator": model.get_submodule("discriminator")}

    def trainable(self, phase: str) -> str:
        return phase

    def losses(self, modules: Modules, batch: Batch, phase: str) -> tuple[Losses, Report]:
        noise = self._noise(batch, phase)
        if phase == "generator":
            fake_logit = modules["discriminator"](modules["generator"](noise)).float()
            return {"generator_loss": F.softplus(-fake_logit).mean()}, {}
        with torch.no_grad():
            fake = modules["generator"](noise)
        # Real and fake are passed apart, so that batch norm doesn't mix their statistics.
        real_logit, fake_logit = (modules["discriminator"](image).float() for image in (batch["image"], fake))
        losses = {
            "real_loss": F.softplus(-real_logit).mean(),
            "fake_loss": F.softplus(fake_logit).mean(),
        }
        report = {"d_real": real_logit.detach().sigmoid().mean(), "d_fake": fake_logit.detach().sigmoid().mean()}
        return losses, report

    def measure(self, modules: Modules, batch: Batch, metrics: Metrics) -> None:
        fake = modules["generator"](self._noise(batch, "evaluation"))
        real_logit, fake_logit = (modules["discriminator"](image).double() for image in (batch["image"], fake))
        metrics.add(
            count=len(fake),
            d_real=real_logit.sigmoid().sum(),
            d_fake=fake_logit.sigmoid().sum(),
            discriminator_loss=(F.softplus(-real_logit) + F.softplus(fake_logit)).sum(),
            generator_loss=F.softplus(-fake_logit).sum(),
        )

    def compute(self, metrics: Metrics) -> dict[str, float]:
        sums = dict(metrics.sums)
        count = float(sums.pop("count"))
        return {name: float(value) / count for name, value in sums.items()}

    def predict(self, modules: Modules, batch: Batch) -> list[Prediction]:
        """One image a key."""
        return [{"image": image} for image in self.generate(modules, batch["key"])]

    def generate(self, modules: Modules, keys: Tensor) -> np.ndarray:
        """Samples: keys (N,) int64 -> images (N, H, W, C) in [0, 1]."""
        return as_pictures(modules["generator"](self._noise({"key": keys}, "sample")).float() * 0.5 + 0.5)

    def pictures(self, modules: Modules, batch: Batch) -> dict[str, np.ndarray]:
        return {"samples": self.generate(modules, batch["key"][:_NUM_PICTURES])}

    def dummy_batch(self, num_samples: int, model_args: Mapping[str, Any]) -> Batch:
        size = int(model_args["image_size"])
        image = torch.rand(num_samples, int(model_args["in_channels"]), size, size) * 2 - 1
        return {"image": image, **dummy_samples(num_samples)}

    def _noise(self, batch: Batch, purpose: str) -> Tensor:
        return sample_normal(batch, f"latent/{purpose}", (self.latent_dim,))
