"""Super-resolution: from an image made small back to the image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.metrics.images import WINDOW, luma, psnr, ssim
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
)

if TYPE_CHECKING:
    from dlsvc.data.preprocess import Preprocess

_NUM_PICTURES = 8


@register_task("super-resolution", metrics=("psnr", "psnr_bicubic", "ssim", "ssim_bicubic", "loss"), reads=("image",))
class SuperResolution(Task):
    """The error a pixel of an image that was made smaller and is enlarged again: squared, l2, as Ledig et al. (2017,
    equation 4), or absolute, l1 (Lim et al. 2017).

    Images are in [-1, 1]: give the data mean 0.5 and deviation 0.5, and sides that the model's scale divides. The small
    image is a bicubic reduction against aliasing, in 8 bits, as a file would hold it. Metrics: psnr and ssim of luma,
    `scale` pixels at the edge left out, as means over images; the same of a bicubic enlargement; loss.
    """

    def __init__(self, *, loss: Literal["l1", "l2"] = "l2") -> None:
        self.error = {"l1": F.l1_loss, "l2": F.mse_loss}[loss]
        self.scale = 0

    @property
    def image_range(self) -> tuple[float, float]:
        return SIGNED_RANGE

    def modules(self, model: nn.Module) -> dict[str, nn.Module]:
        """Also notes the scale, which a wrapped module no longer shows."""
        assert isinstance(model.scale, int)
        self.scale = model.scale
        return {"model": model}

    @property
    def keeps_size(self) -> bool:
        return True

    def misfits(self, data: Preprocess, model_args: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        yield from super().misfits(data, model_args)
        if data.image is None:
            return
        size, scale = data.image.size, int(model_args["scale"])
        if size % scale:
            yield "data.image.size", f"is {size}, which the model's scale {scale} must divide"
        if size - 2 * scale < WINDOW:
            least = -(-(WINDOW + 2 * scale) // scale) * scale
            message = f"ssim leaves {scale} pixels at each edge out and looks at {WINDOW} at a time"
            yield "data.image.size", f"is {size}; {message}, so it must be at least {least}"

    def losses(self, modules: Modules, batch: Batch, phase: str) -> tuple[Losses, Report]:
        image = batch["image"]
        return {"loss": self.error(modules["model"](reduced(image, self.scale)).float(), image)}, {}

    def measure(self, modules: Modules, batch: Batch, metrics: Metrics) -> None:
        image = batch["image"]
        small = reduced(image, self.scale)
        made = modules["model"](small).float()
        named = {"": made, "_bicubic": enlarged(small, self.scale)}
        real = luma(in_unit_range(image), self.scale)
        for suffix, picture in named.items():
            shown = luma(in_unit_range(picture), self.scale)
            metrics.add(**{f"psnr{suffix}": psnr(shown, real).sum(), f"ssim{suffix}": ssim(shown, real).sum()})
        metrics.add(count=len(image), loss=self.error(made, image).double() * len(image))

    def compute(self, metrics: Metrics) -> dict[str, float]:
        sums = dict(metrics.sums)
        count = float(sums.pop("count"))
        return {name: float(value) / count for name, value in sums.items()}

    def predict(self, modules: Modules, batch: Batch) -> list[Prediction]:
        """Each image enlarged: what is given is the small one."""
        made = modules["model"](batch["image"]).float()
        return [{"image": image} for image in as_pictures(in_unit_range(made))]

    def pictures(self, modules: Modules, batch: Batch) -> dict[str, np.ndarray]:
        """Enlarged by repetition, by bicubic interpolation and by the model, and the originals."""
        image = batch["image"][:_NUM_PICTURES]
        small = reduced(image, self.scale)
        named = {
            "small": F.interpolate(small, scale_factor=self.scale, mode="nearest"),
            "bicubic": enlarged(small, self.scale),
            "enlarged": modules["model"](small).float(),
            "originals": image,
        }
        return {name: as_pictures(in_unit_range(images)) for name, images in named.items()}

    def dummy_batch(self, num_samples: int, model_args: Mapping[str, Any]) -> Batch:
        """Smooth images: of noise, nothing is left to find again when it has been made small."""
        coarse = torch.rand(num_samples, int(model_args["in_channels"]), 4, 4) * 2 - 1
        return {"image": F.interpolate(coarse, size=16, mode="bilinear"), **dummy_samples(num_samples)}


def reduced(image: Tensor, scale: int) -> Tensor:
    """(B, C, S H, S W) -> (B, C, H, W) by bicubic interpolation with its kernel as wide as a new pixel, in 8 bits."""
    size = [side // scale for side in image.shape[-2:]]
    small = F.interpolate(image.float(), size=size, mode="bicubic", antialias=True, align_corners=False)
    levels: Tensor = (in_unit_range(small) * 255).round() / 255
    return levels * 2 - 1


def enlarged(image: Tensor, scale: int) -> Tensor:
    """(B, C, H, W) -> (B, C, S H, S W) by bicubic interpolation."""
    return F.interpolate(image.float(), scale_factor=scale, mode="bicubic", align_corners=False)


def in_unit_range(image: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1], cut off beyond."""
    return (image.float() / 2 + 0.5).clamp(0, 1)
