"""Denoising: a diffusion model's objective, and samples made with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from dlsvc.augment import keys as random
from dlsvc.diffusion import Network, Sampler, guided, kept, noised, target
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
_FILM_STEPS = 10


@register_task("denoising", metrics=("denoising_loss",), reads=("image",), makes_samples=True)
class Denoising(Task):
    """The mean squared error of what a network predicts of a noisy image (Ho, Jain and Abbeel 2020, equation 14), at
    times drawn uniformly.

    Images are in [-1, 1]: give the data mean 0.5 and deviation 0.5. `prediction` is the noise, the sample or the
    velocity; `schedule` and `num_steps` say how noise grows. Classes, where the model has them, are left out of a share
    `drop_label` of samples, so that `guidance` can go beyond the condition (Ho and Salimans 2022). `solver` and
    `sample_steps` make the samples. Times and noise belong to the samples. Metric: denoising_loss.
    """

    def __init__(
        self,
        *,
        prediction: Literal["noise", "sample", "velocity"] = "noise",
        schedule: Literal["linear", "scaled-linear", "cosine"] = "linear",
        num_steps: int = 1000,
        drop_label: float = 0.1,
        guidance: float = 1.0,
        solver: Literal["ddpm", "ddim", "heun", "dpmpp-2m"] = "dpmpp-2m",
        sample_steps: int = 20,
    ) -> None:
        self.prediction, self.drop_label, self.guidance = prediction, drop_label, guidance
        self.shares = kept(schedule, num_steps)
        self.sampler = Sampler(self.shares.tolist(), prediction, solver, sample_steps, clip=1.0)
        self.shape, self.num_classes = (0, 0, 0), 0

    @property
    def makes_classes(self) -> bool:
        return self.num_classes > 0

    def modules(self, model: nn.Module) -> dict[str, nn.Module]:
        """Also notes the images' shape and the classes, which a wrapped module no longer shows."""
        self.shape, self.num_classes = model.shape, model.num_classes  # type: ignore[assignment]
        return {"model": model}

    def losses(self, modules: Modules, batch: Batch, phase: str) -> tuple[Losses, Report]:
        return {"denoising_loss": self._errors(modules, batch, self.drop_label).mean()}, {}

    def measure(self, modules: Modules, batch: Batch, metrics: Metrics) -> None:
        metrics.add(count=len(batch["image"]), squared=self._errors(modules, batch, 0.0).double().sum())

    def compute(self, metrics: Metrics) -> dict[str, float]:
        return {"denoising_loss": float(metrics.sums["squared"]) / float(metrics.sums["count"])}

    def predict(self, modules: Modules, batch: Batch) -> list[Prediction]:
        """A sample for each key, of the label's class where there are labels."""
        return [{"image": image} for image in as_pictures(self.generate(modules, batch) / 2 + 0.5)]

    def generate(self, modules: Modules, batch: Batch) -> Tensor:
        """(N, C, H, W) in [-1, 1] of the samples' keys (N,), and labels (N,) if the batch has them."""
        last: Tensor
        *_, last = self._trajectory(modules, batch)
        return last

    def pictures(self, modules: Modules, batch: Batch) -> dict[str, np.ndarray]:
        """Originals, samples of the same classes, and how the first of them came about."""
        few = {name: value[:_NUM_PICTURES] for name, value in batch.items()}
        states = list(self._trajectory(modules, few))
        shown = np.linspace(0, len(states) - 1, min(_FILM_STEPS, len(states))).round().astype(int).tolist()
        film = torch.stack([states[place][0] for place in shown])
        named = {"originals": few["image"], "samples": states[-1], "denoising": film}
        return {name: as_pictures(images / 2 + 0.5) for name, images in named.items()}

    def dummy_batch(self, num_samples: int, model_args: Mapping[str, Any]) -> Batch:
        size, classes = int(model_args["image_size"]), int(model_args["num_classes"])
        image = torch.rand(num_samples, int(model_args["in_channels"]), size, size) * 2 - 1
        label = torch.arange(num_samples) % max(1, classes)
        return {"image": image, "label": label, **dummy_samples(num_samples)}

    def _errors(self, modules: Modules, batch: Batch, drop_label: float) -> Tensor:
        """The squared error of each sample, (B,)."""
        image = batch["image"]
        step = self._uniform(batch, "timestep").mul(len(self.shares)).long()
        share = self.shares.to(image.device)[step]
        noise = sample_normal(batch, "noise", tuple(image.shape[1:]))
        wanted = target(image, noise, share, self.prediction)
        predicted = modules["model"](noised(image, noise, share), step, self._labels(batch, drop_label))
        errors: Tensor = (predicted.float() - wanted).square().flatten(1).mean(1)
        return errors

    def _labels(self, batch: Batch, drop: float) -> Tensor | None:
        """The classes, the last of which is none."""
        if not self.num_classes or "label" not in batch:
            return None
        return torch.where(self._uniform(batch, "drop-label") < drop, self.num_classes, batch["label"])

    def _uniform(self, batch: Batch, stream: str) -> Tensor:
        """A number in [0, 1) of each sample, (B,) float64."""
        words = batch["key"].cpu().numpy().view(np.uint64)
        return torch.from_numpy(random.uniform(random.derive(words, stream))).to(batch["key"].device)

    def _trajectory(self, modules: Modules, batch: Batch) -> Iterator[Tensor]:
        noise = sample_normal(batch, "sample", self.shape)
        return self.sampler.trajectory(
            self._network(modules, batch), noise, lambda step: sample_normal(batch, f"sample/{step}", self.shape)
        )

    def _network(self, modules: Modules, batch: Batch) -> Network:
        model, labels = modules["model"], self._labels(batch, 0.0)

        def ask(state: Tensor, step: int, label: Tensor | None) -> Tensor:
            steps = torch.full((len(state),), step, device=state.device)
            found: Tensor = model(state, steps, label).float()
            return found

        if labels is None or self.guidance == 1:
            return lambda state, step: ask(state, step, labels)
        return guided(ask, labels, torch.full_like(labels, self.num_classes), self.guidance)
