"""Latent denoising: diffusion in an autoencoder's latents, told what to make by a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.diffusion import Given
from dlsvc.registry import register_task
from dlsvc.tasks.base import Batch, Modules, Setting, dummy_samples, sample_normal, sample_uniform
from dlsvc.tasks.denoising import MOST_GUIDANCE, Denoising


@register_task(
    "latent-denoising", metrics=("denoising_loss",), reads=("image", "tokens"), makes_samples=True, encodes_once=True
)
class LatentDenoising(Denoising):
    """The mean squared error of what a network predicts of a noisy latent (Rombach et al. 2022, equation 3), at times
    drawn uniformly; the autoencoder is frozen.

    Images are in [-1, 1]: give the data mean 0.5 and deviation 0.5. Texts are left out of a share `drop_label` of
    samples, an empty one in their place, so that `guidance` can go beyond the condition (Ho and Salimans 2022). The
    other arguments are those of `denoising`. Times, noise and latents' draws belong to the samples. Metric:
    denoising_loss.
    """

    clip = None

    def __init__(
        self,
        *,
        prediction: Literal["noise", "sample", "velocity"] = "noise",
        schedule: Literal["linear", "scaled-linear", "cosine"] = "scaled-linear",
        num_steps: int = 1000,
        drop_label: float = 0.1,
        guidance: float = 4.0,
        solver: Literal["ddpm", "ddim", "heun", "dpmpp-2m"] = "dpmpp-2m",
        sample_steps: int = 20,
    ) -> None:
        super().__init__(
            prediction=prediction,
            schedule=schedule,
            num_steps=num_steps,
            drop_label=drop_label,
            guidance=guidance,
            solver=solver,
            sample_steps=sample_steps,
        )
        self.scale, self.no_text, self.pad_id = 1.0, torch.empty(0, dtype=torch.int64), 0

    @property
    def makes_classes(self) -> bool:
        return False

    @property
    def makes_prompts(self) -> bool:
        return True

    @property
    def settings(self) -> Mapping[str, Setting]:
        """`strength` is the share of the steps that an image given to begin from goes through."""
        own = {"guidance": Setting(0, MOST_GUIDANCE, own=True), "strength": Setting(0.01, 1)}
        return {**super().settings, **own}

    def modules(self, model: nn.Module) -> dict[str, nn.Module]:
        """Also notes what wrapped modules no longer show."""
        known: Any = model
        self.scale, self.pad_id = known.latent_scale, known.pad_id
        self.no_text, self.shape = torch.tensor(known.no_text), known.autoencoder.latent_shape
        return {name: model.get_submodule(name) for name in ("autoencoder", "denoiser")}

    def trainable(self, phase: str) -> str:
        return "denoiser"

    def dummy_batch(self, num_samples: int, model_args: Mapping[str, Any]) -> Batch:
        size, text = int(model_args["image_size"]), model_args["text"]
        length = int(text["max_seq_len"])
        tokens = torch.randint(4, int(text["vocab_size"]), (num_samples, length))
        tokens[:, 0], tokens[:, length // 2] = 1, int(text["eos_id"])
        tokens[:, length // 2 + 1 :] = int(text["pad_id"])
        image = torch.rand(num_samples, int(model_args["in_channels"]), size, size) * 2 - 1
        return {"image": image, "tokens": tokens, "attention_mask": tokens > 0, **dummy_samples(num_samples)}

    def _network_of(self, modules: Modules) -> nn.Module:
        return modules["denoiser"]

    def encode(self, modules: Modules, batch: Batch) -> Tensor:
        """The mean and the log-variance of each image's latent, (B, 2 Z, h, w)."""
        image = batch["image"]
        with torch.no_grad():
            found = modules["autoencoder"](image, image.new_zeros(()), decode=False)
        return torch.cat([found["mean"], found["logvar"]], dim=1).float()

    def _clean(self, modules: Modules, batch: Batch) -> Tensor:
        """The images' latents, drawn from their distributions."""
        moments = batch["encoded"] if "encoded" in batch else self.encode(modules, batch)
        mean, logvar = moments.chunk(2, dim=1)
        return (mean + torch.exp(0.5 * logvar) * sample_normal(batch, "latent", self.shape)) * self.scale

    def _condition(self, batch: Batch, drop: float) -> Tensor | None:
        empty = self.no_text.to(batch["key"].device).expand(len(batch["key"]), -1)
        if "tokens" not in batch:
            return empty
        left_out = sample_uniform(batch, "drop-label") < drop
        return torch.where(left_out[:, None], empty, self._padded(batch["tokens"]))

    def _nothing(self, batch: Batch, condition: Tensor) -> Tensor:
        """The negative text, or an empty one."""
        if "negative_tokens" in batch:
            return self._padded(batch["negative_tokens"])
        return self.no_text.to(condition.device).expand(len(condition), -1)

    def _padded(self, tokens: Tensor) -> Tensor:
        """As long as the text that says nothing: a model may read longer texts than the data has."""
        return F.pad(tokens, (0, len(self.no_text) - tokens.shape[1]), value=self.pad_id)

    def _images(self, modules: Modules, states: Tensor) -> Tensor:
        found: Tensor = modules["autoencoder"](None, states / self.scale)["reconstruction"].float()
        return found.clamp(-1, 1)

    def _given(self, modules: Modules, batch: Batch) -> Given | None:
        """What a request begins from: an image, at a strength, and a mask (B, H, W) of what is to be made anew."""
        if "strength" not in batch:
            return None
        stay = None
        if "mask" in batch:
            # A latent stays only where all of its pixels do.
            stay = 1 - F.adaptive_max_pool2d(batch["mask"].float()[:, None], self.shape[1:])
        return Given(self._clean(modules, batch), float(batch["strength"][0]), stay)
