"""Denoising: a diffusion model's objective, and samples made with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from dlsvc.diffusion import Given, Network, Sampler, guided, kept, noised, target
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
    Setting,
    Task,
    as_pictures,
    dummy_samples,
    sample_normal,
    sample_uniform,
)

_NUM_PICTURES = 16
_FILM_STEPS = 10
MOST_GUIDANCE = 100.0


@register_task("denoising", metrics=("denoising_loss",), reads=("image",), makes_samples=True)
class Denoising(Task):
    """The mean squared error of what a network predicts of a noisy image (Ho, Jain and Abbeel 2020, equation 14), at
    times drawn uniformly.

    Images are in [-1, 1]: give the data mean 0.5 and deviation 0.5. `prediction` is the noise, the sample or the
    velocity; `schedule` and `num_steps` say how noise grows. Classes, where the model has them, are left out of a share
    `drop_label` of samples, so that `guidance` can go beyond the condition (Ho and Salimans 2022). `solver` and
    `sample_steps` make the samples. Times and noise belong to the samples. Metric: denoising_loss.
    """

    # What estimates of a sample are cut to.
    clip: ClassVar[float | None] = 1.0

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
        if not 0 <= drop_label <= 1 or not 0 <= guidance <= MOST_GUIDANCE:
            raise UsageError(
                f"drop_label must be in [0, 1] and guidance in 0 to {MOST_GUIDANCE:g}, not {drop_label} and {guidance}"
            )
        # The cosine schedule ends at so little of a sample that after the first of 20 steps an error in the noise is
        # 1,580 times as large; only a cut bounds that.
        if self.clip is None and (schedule, prediction) == ("cosine", "noise"):
            raise UsageError(
                "schedule cosine ends in noise alone, from which prediction noise finds no latent; give prediction: "
                "velocity"
            )
        self.prediction, self.drop_label, self.guidance = prediction, drop_label, guidance
        self.shares = kept(schedule, num_steps)
        self.sampler = Sampler(self.shares.tolist(), prediction, solver, sample_steps, self.clip)
        self.shape, self.num_classes = (0, 0, 0), 0

    @property
    def image_range(self) -> tuple[float, float]:
        return SIGNED_RANGE

    @property
    def makes_classes(self) -> bool:
        return self.num_classes > 0

    @property
    def settings(self) -> Mapping[str, Setting]:
        guidance = {"guidance": Setting(0, MOST_GUIDANCE, own=True)}
        return {"steps": Setting(1, len(self.shares), whole=True), **(guidance if self.num_classes else {})}

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
        """(N, C, H, W) in [-1, 1] of the samples' keys (N,), and of what they are to be if the batch has that."""
        last: Tensor
        *_, last = self._trajectory(modules, batch)
        return self._images(modules, last)

    def pictures(self, modules: Modules, batch: Batch) -> dict[str, np.ndarray]:
        """Originals, samples of the same conditions, and how the first of them came about."""
        few = {name: value[:_NUM_PICTURES] for name, value in batch.items()}
        states = list(self._trajectory(modules, few))
        shown = np.linspace(0, len(states) - 1, min(_FILM_STEPS, len(states))).round().astype(int).tolist()
        film = self._images(modules, torch.stack([states[place][0] for place in shown]))
        named = {"originals": few["image"], "samples": self._images(modules, states[-1]), "denoising": film}
        return {name: as_pictures(images / 2 + 0.5) for name, images in named.items()}

    def dummy_batch(self, num_samples: int, model_args: Mapping[str, Any]) -> Batch:
        size, classes = int(model_args["image_size"]), int(model_args["num_classes"])
        image = torch.rand(num_samples, int(model_args["in_channels"]), size, size) * 2 - 1
        label = torch.arange(num_samples) % max(1, classes)
        return {"image": image, "label": label, **dummy_samples(num_samples)}

    def _errors(self, modules: Modules, batch: Batch, drop_label: float) -> Tensor:
        """The squared error of each sample, (B,)."""
        clean = self._clean(modules, batch)
        step = sample_uniform(batch, "timestep").mul(len(self.shares)).long()
        share = self.shares.to(clean.device)[step]
        noise = sample_normal(batch, "noise", tuple(clean.shape[1:]))
        wanted = target(clean, noise, share, self.prediction)
        predicted = self._network_of(modules)(noised(clean, noise, share), step, self._condition(batch, drop_label))
        errors: Tensor = (predicted.float() - wanted).square().flatten(1).mean(1)
        return errors

    def _trajectory(self, modules: Modules, batch: Batch) -> Iterator[Tensor]:
        """`steps` in a batch, the same for all of it, are taken instead of the task's."""
        sampler = self.sampler
        if "steps" in batch:
            sampler = dataclasses.replace(sampler, steps=int(batch["steps"][0]))
        return sampler.trajectory(
            self._network(modules, batch),
            sample_normal(batch, "sample", self.shape),
            lambda step: sample_normal(batch, f"sample/{step}", self.shape),
            self._given(modules, batch),
        )

    def _network(self, modules: Modules, batch: Batch) -> Network:
        model, condition = self._network_of(modules), self._condition(batch, 0.0)

        def ask(state: Tensor, step: int, wanted: Tensor | None) -> Tensor:
            steps = torch.full((len(state),), step, device=state.device)
            found: Tensor = model(state, steps, wanted).float()
            return found

        scale = batch["guidance"].float()[:, None, None, None] if "guidance" in batch else self.guidance
        if condition is None or (isinstance(scale, float) and scale == 1):
            return lambda state, step: ask(state, step, condition)
        return guided(ask, condition, self._nothing(batch, condition), scale)

    # What diffusion in latents, told by texts, does in another way.

    def _network_of(self, modules: Modules) -> nn.Module:
        return modules["model"]

    def _clean(self, modules: Modules, batch: Batch) -> Tensor:
        """What noise is added to."""
        return batch["image"]

    def _condition(self, batch: Batch, drop: float) -> Tensor | None:
        """What the network is told, left out of a share of samples: the classes, the last of which is none."""
        if not self.num_classes or "label" not in batch:
            return None
        return torch.where(sample_uniform(batch, "drop-label") < drop, self.num_classes, batch["label"])

    def _nothing(self, batch: Batch, condition: Tensor) -> Tensor:
        return torch.full_like(condition, self.num_classes)

    def _images(self, modules: Modules, states: Tensor) -> Tensor:
        return states

    def _given(self, modules: Modules, batch: Batch) -> Given | None:
        return None
