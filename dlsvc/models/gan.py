"""Generative adversarial network with convolutions (DCGAN).

B batch, C channels, Z latent size.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.errors import UsageError
from dlsvc.nn.spectral import SpectralConv2d
from dlsvc.registry import register_model

Norm = Literal["batch", "spectral", "none"]

_INIT_STD = 0.02
# The side where the generator starts, and how often it doubles.
_STAGES = {8: (4, 1), 16: (4, 2), 28: (7, 2), 32: (4, 3), 64: (4, 4)}


class Generator(nn.Module):
    """Noise to an image in [-1, 1]: transposed convolutions, batch norm, ReLU; tanh at the end."""

    def __init__(self, *, image_size: int, out_channels: int, base_channels: int, latent_dim: int) -> None:
        super().__init__()
        start, num_stages = _STAGES[image_size]
        width = base_channels * 2 ** (num_stages - 1)
        layers: list[nn.Module] = [
            nn.Unflatten(1, (latent_dim, 1, 1)),
            nn.ConvTranspose2d(latent_dim, width, start, bias=False),  # 1 -> 4
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        for _ in range(num_stages - 1):
            layers += [
                nn.ConvTranspose2d(width, width // 2, 4, stride=2, padding=1, bias=False),  # twice the side
                nn.BatchNorm2d(width // 2),
                nn.ReLU(),
            ]
            width //= 2
        layers += [nn.ConvTranspose2d(width, out_channels, 4, stride=2, padding=1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, noise: Tensor) -> Tensor:
        image: Tensor = self.layers(noise)  # (B, Z) -> (B, C, H, W)
        return image


class Discriminator(nn.Module):
    """An image to the logit of its being real: strided convolutions, a norm on all but the first, leaky ReLU.

    The norm is of the batch, of the weights (spectral, on every layer) or none: a penalty on the gradient is a
    sample's own, which batch norm would mix.
    """

    def __init__(self, *, image_size: int, in_channels: int, base_channels: int, norm: Norm) -> None:
        super().__init__()
        end, num_stages = _STAGES[image_size]
        width = base_channels
        convolution = SpectralConv2d if norm == "spectral" else nn.Conv2d
        layers: list[nn.Module] = [convolution(in_channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for _ in range(num_stages - 1):
            # A bias before a batch norm has no effect.
            layers.append(convolution(width, 2 * width, 4, stride=2, padding=1, bias=norm != "batch"))  # half the side
            layers += [nn.BatchNorm2d(2 * width)] if norm == "batch" else []
            layers.append(nn.LeakyReLU(0.2))
            width *= 2
        layers += [convolution(width, 1, end), nn.Flatten(0)]  # 4 -> 1
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor, *, steepness: bool = False) -> Tensor:
        """Logits (B,); or, with `steepness`, the norms of their gradients by the images, (B,)."""
        logit: Tensor = self._steepness(image) if steepness else self.layers(image)  # (B, C, H, W) -> (B,)
        return logit

    def _steepness(self, image: Tensor) -> Tensor:
        """The slope along the gradient's own direction, held fixed: that is its norm, and has the norm's derivative by
        the weights. So one backward pass is enough, and no strategy sees a second derivative.
        """
        at = image.detach().requires_grad_()
        [gradient] = torch.autograd.grad(self.layers(at).float().sum(), at)
        x, tangent = image, F.normalize(gradient.flatten(1), dim=1).view_as(gradient)
        for layer in self.layers:
            x, tangent = _along(layer, x, tangent)
        return tangent


def _along(layer: nn.Module, x: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
    """What a layer makes of x, and how that changes along a tangent, by calls of the layer alone."""
    if isinstance(layer, nn.BatchNorm2d):
        raise UsageError("gan: a gradient penalty is each sample's own, and a batch norm mixes them; give norm: none")
    if isinstance(layer, nn.LeakyReLU):
        return layer(x), torch.where(x > 0, tangent, layer.negative_slope * tangent)
    # Affine: what it makes of zero is its constant.
    out = layer(torch.cat([x, tangent, torch.zeros_like(x[:1])]))
    return out[: len(x)], out[len(x) : -1] - out[-1:]


@register_model(
    "gan",
    task="adversarial",
    metric="frechet_distance",
    tiny={"image_size": 16, "base_channels": 4, "latent_dim": 4},
)
class GAN(nn.Module):
    """Deep convolutional GAN (Radford, Metz and Chintala, 2016), the paper's sizes by default.

    `generator` and `discriminator` are separate units to a trainer. Images are in [-1, 1]: mean 0.5, deviation 0.5.
    `norm` is the discriminator's: batch is the paper's, spectral goes with the hinge loss, none with a gradient
    penalty.
    """

    def __init__(
        self,
        *,
        image_size: int = 64,
        in_channels: int = 3,
        base_channels: int = 64,
        latent_dim: int = 100,
        norm: Literal["batch", "spectral", "none"] = "batch",
    ) -> None:
        super().__init__()
        if image_size not in _STAGES:
            raise UsageError(f"gan: image_size must be one of {', '.join(map(str, _STAGES))}, not {image_size}")
        self.latent_dim, self.norm = latent_dim, norm
        self.generator = Generator(
            image_size=image_size, out_channels=in_channels, base_channels=base_channels, latent_dim=latent_dim
        )
        self.discriminator = Discriminator(
            image_size=image_size, in_channels=in_channels, base_channels=base_channels, norm=norm
        )
        self.apply(_initialise)

    def forward(self, noise: Tensor) -> Tensor:
        image: Tensor = self.generator(noise)
        return image


def _initialise(module: nn.Module) -> None:
    """Section 3 of the paper: every weight from N(0, 0.02); the norms' scales around 1."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, std=_INIT_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, mean=1.0, std=_INIT_STD)
