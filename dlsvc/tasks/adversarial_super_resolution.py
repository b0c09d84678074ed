"""Super-resolution that is judged by how images look: adversarial and perceptual losses beside the pixels'."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.errors import UsageError
from dlsvc.registry import register_task
from dlsvc.tasks.base import Batch, Losses, Metrics, Modules, Prediction, Report, Task
from dlsvc.tasks.super_resolution import SuperResolution, enlarged, reduced

if TYPE_CHECKING:
    from dlsvc.data.preprocess import Preprocess


@register_task(
    "adversarial-super-resolution",
    metrics=(
        "perceptual_distance",
        "perceptual_distance_bicubic",
        "psnr",
        "psnr_bicubic",
        "ssim",
        "ssim_bicubic",
        "loss",
        "d_real",
        "d_fake",
    ),
    reads=("image",),
    phases=("discriminator", "generator"),
)
class AdversarialSuperResolution(Task):
    """Ledig et al. (2017, equation 3): the mean squared error of pixels, that of a frozen network's features
    (`perceptual`), and the non-saturating game (`adversarial`), each by its weight.

    Data as for `super-resolution`, and its metrics; perceptual_distance is the mean squared error of the features, also
    of a bicubic enlargement; d_real and d_fake are mean probabilities of being a photograph.
    """

    def __init__(self, *, pixel: float = 1.0, perceptual: float = 1.0, adversarial: float = 1e-3) -> None:
        if min(pixel, perceptual, adversarial) < 0 or not any((pixel, perceptual, adversarial)):
            raise UsageError(
                "pixel, perceptual and adversarial must be at least 0 and not all 0, not "
                f"{pixel}, {perceptual} and {adversarial}"
            )
        self.pixel, self.perceptual, self.adversarial = pixel, perceptual, adversarial
        self.plain = SuperResolution()

    def modules(self, model: nn.Module) -> dict[str, nn.Module]:
        assert isinstance(model.scale, int)
        self.plain.scale = model.scale
        return {name: model.get_submodule(name) for name in ("generator", "discriminator", "eye")}

    def misfits(self, data: Preprocess, model_args: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        yield from self.plain.misfits(data, model_args)

    def trainable(self, phase: str) -> str:
        return phase

    @property
    def keeps_size(self) -> bool:
        return True

    def losses(self, modules: Modules, batch: Batch, phase: str) -> tuple[Losses, Report]:
        image, judge = batch["image"], modules["discriminator"]
        made = modules["generator"](reduced(image, self.plain.scale)).float()
        if phase == "generator":
            seen = F.mse_loss(modules["eye"](made).float(), modules["eye"](image).float())
            fooled = F.softplus(-judge(made).float()).mean()
            pixels = F.mse_loss(made, image)
            weighed = {"pixel_loss": self.pixel * pixels, "perceptual_loss": self.perceptual * seen}
            return {**weighed, "adversarial_loss": self.adversarial * fooled}, {}
        real_logit, fake_logit = judge(image).float(), judge(made.detach()).float()
        losses = {"real_loss": F.softplus(-real_logit).mean(), "fake_loss": F.softplus(fake_logit).mean()}
        report = {"d_real": real_logit.detach().sigmoid().mean(), "d_fake": fake_logit.detach().sigmoid().mean()}
        return losses, report

    def measure(self, modules: Modules, batch: Batch, metrics: Metrics) -> None:
        self.plain.measure({"model": modules["generator"]}, batch, metrics)
        image = batch["image"]
        small = reduced(image, self.plain.scale)
        made, real = modules["generator"](small).float(), modules["eye"](image)
        for suffix, picture in (("", made), ("_bicubic", enlarged(small, self.plain.scale))):
            metrics.add(**{f"perceptual_distance{suffix}": _distance(modules["eye"](picture), real).sum()})
        judged = {"d_real": image, "d_fake": made}
        metrics.add(**{name: modules["discriminator"](x).double().sigmoid().sum() for name, x in judged.items()})

    def compute(self, metrics: Metrics) -> dict[str, float]:
        return self.plain.compute(metrics)

    def predict(self, modules: Modules, batch: Batch) -> list[Prediction]:
        """Each image enlarged: what is given is the small one."""
        return self.plain.predict({"model": modules["generator"]}, batch)

    def pictures(self, modules: Modules, batch: Batch) -> dict[str, np.ndarray]:
        return self.plain.pictures({"model": modules["generator"]}, batch)

    def dummy_batch(self, num_samples: int, model_args: Mapping[str, Any]) -> Batch:
        return self.plain.dummy_batch(num_samples, model_args)


def _distance(one: Tensor, other: Tensor) -> Tensor:
    """The mean squared difference of each sample's features, (B,) float64."""
    found: Tensor = (one.double() - other.double()).square().flatten(1).mean(1)
    return found
