"""Generative adversarial network with convolutions (DCGAN).

B batch, C channels, Z latent size.
"""

from __future__ import annotations

from torch import Tensor, nn

from dlsvc.errors import UsageError
from dlsvc.registry import register_model

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
    """An image to the logit of its being real: strided convolutions, batch norm on all but the first, leaky ReLU."""

    def __init__(self, *, image_size: int, in_channels: int, base_channels: int) -> None:
        super().__init__()
        end, num_stages = _STAGES[image_size]
        width = base_channels
        layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for _ in range(num_stages - 1):
            layers += [
                nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False),  # half the side
                nn.BatchNorm2d(2 * width),
                nn.LeakyReLU(0.2),
            ]
            width *= 2
        layers += [nn.Conv2d(width, 1, end), nn.Flatten(0)]  # 4 -> 1
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        logit: Tensor = self.layers(image)  # (B, C, H, W) -> (B,)
        return logit


@register_model(
    "gan",
    task="adversarial",
    tiny={"image_size": 16, "base_channels": 4, "latent_dim": 4},
)
class GAN(nn.Module):
    """Deep convolutional GAN (Radford, Metz and Chintala, 2016), the paper's sizes by default.

    `generator` and `discriminator` are separate units to a trainer. Images are in [-1, 1]: mean 0.5, deviation 0.5.
    """

    def __init__(
        self, *, image_size: int = 64, in_channels: int = 3, base_channels: int = 64, latent_dim: int = 100
    ) -> None:
        super().__init__()
        if image_size not in _STAGES:
            raise UsageError(f"gan: image_size must be one of {', '.join(map(str, _STAGES))}, not {image_size}")
        self.latent_dim = latent_dim
        self.generator = Generator(
            image_size=image_size, out_channels=in_channels, base_channels=base_channels, latent_dim=latent_dim
        )
        self.discriminator = Discriminator(image_size=image_size, in_channels=in_channels, base_channels=base_channels)
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
