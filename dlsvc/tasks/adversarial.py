"""Adversarial training of a generator and a discriminator, in two phases a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.errors import UsageError
from dlsvc.registry import register_task
from dlsvc.tasks.base import (
    SIGNED_RANGE,
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
    sample_uniform,
)

_NUM_PICTURES = 16


@dataclass(frozen=True)
class Game:
    """What each side loses by a logit, (B,) -> (B,), and what a logit says of a sample."""

    real: Callable[[Tensor], Tensor]
    fake: Callable[[Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]
    verdict: Callable[[Tensor], Tensor]


GAMES = {
    "non-saturating": Game(lambda x: F.softplus(-x), F.softplus, lambda x: F.softplus(-x), torch.sigmoid),
    "hinge": Game(lambda x: F.relu(1 - x), lambda x: F.relu(1 + x), torch.neg, torch.sigmoid),
    "wasserstein": Game(torch.neg, torch.clone, torch.neg, torch.clone),
}


@register_task(
    "adversarial",
    metrics=("discriminator_loss", "generator_loss", "d_real", "d_fake"),
    reads=("image",),
    phases=("discriminator", "generator"),
    makes_samples=True,
)
class Adversarial(Task):
    """A generator against a discriminator of logits, by one of three games.

    `loss`: non-saturating (Goodfellow et al. 2014, section 3; softplus(-x) is -log sigmoid(x)), hinge (Lim and Ye 2017)
    or wasserstein (Arjovsky, Chintala and Bottou 2017). `gradient_penalty` weighs the squared distance of the
    gradient's norm from one, between real and fake (Gulrajani et al. 2017, equation 3, where it is 10).

    Images are in [-1, 1]: give the data mean 0.5 and deviation 0.5. Noise belongs to the samples, with a stream a
    phase. Metrics over a split: d_real and d_fake (mean probabilities of being real; means of the critic itself in the
    wasserstein game), discriminator_loss, generator_loss. They tell whether the game is alive, not how good the
    pictures are.
    """

    def __init__(
        self, *, loss: Literal["non-saturating", "hinge", "wasserstein"] = "non-saturating", gradient_penalty: float = 0
    ) -> None:
        if gradient_penalty < 0:
            raise UsageError(f"gradient_penalty must be at least 0, not {gradient_penalty}")
        self.game, self.gradient_penalty = GAMES[loss], gradient_penalty
        self.needs_bound = loss == "wasserstein" and not gradient_penalty
        self.latent_dim = 0

    @property
    def image_range(self) -> tuple[float, float]:
        return SIGNED_RANGE

    def modules(self, model: nn.Module) -> dict[str, nn.Module]:
        """Also notes the latent's size, which a wrapped module no longer shows. Raises UsageError for a discriminator
        whose `norm` doesn't go with the game.
        """
        assert isinstance(model.latent_dim, int)
        if self.gradient_penalty and model.norm == "batch":
            raise UsageError(
                "gradient_penalty is each sample's own, and a discriminator with norm: batch mixes them; give the "
                "model norm: none"
            )
        if self.needs_bound and model.norm != "spectral":
            raise UsageError(
                "loss wasserstein needs a critic of bounded slope, or it grows for ever; give gradient_penalty: 10 and "
                "the model norm: none, or the model norm: spectral"
            )
        self.latent_dim = model.latent_dim
        return {"generator": model.get_submodule("generator"), "discriminator": model.get_submodule("discriminator")}

    def trainable(self, phase: str) -> str:
        return phase

    def losses(self, modules: Modules, batch: Batch, phase: str) -> tuple[Losses, Report]:
        noise = self._noise(batch, phase)
        if phase == "generator":
            fake_logit = modules["discriminator"](modules["generator"](noise)).float()
            return {"generator_loss": self.game.generator(fake_logit).mean()}, {}
        with torch.no_grad():
            fake = modules["generator"](noise)
        # Real and fake are passed apart, so that batch norm doesn't mix their statistics.
        real_logit, fake_logit = (modules["discriminator"](image).float() for image in (batch["image"], fake))
        losses = {"real_loss": self.game.real(real_logit).mean(), "fake_loss": self.game.fake(fake_logit).mean()}
        if self.gradient_penalty:
            losses["penalty_loss"] = self.gradient_penalty * self._penalty(modules["discriminator"], batch, fake)
        report = {
            "d_real": self.game.verdict(real_logit.detach()).mean(),
            "d_fake": self.game.verdict(fake_logit.detach()).mean(),
        }
        return losses, report

    def _penalty(self, discriminator: nn.Module, batch: Batch, fake: Tensor) -> Tensor:
        """The mean squared distance from one of the gradient's norm, at a point between each real sample and its
        fake.
        """
        share = sample_uniform(batch, "penalty").float()[:, None, None, None]
        between = batch["image"] + share * (fake - batch["image"])
        penalty: Tensor = (discriminator(between, steepness=True).float() - 1).square().mean()
        return penalty

    def measure(self, modules: Modules, batch: Batch, metrics: Metrics) -> None:
        fake = modules["generator"](self._noise(batch, "evaluation"))
        real_logit, fake_logit = (modules["discriminator"](image).double() for image in (batch["image"], fake))
        metrics.add(
            count=len(fake),
            d_real=self.game.verdict(real_logit).sum(),
            d_fake=self.game.verdict(fake_logit).sum(),
            discriminator_loss=(self.game.real(real_logit) + self.game.fake(fake_logit)).sum(),
            generator_loss=self.game.generator(fake_logit).sum(),
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
