"""Variational autoencoder with convolutions.

B batch, C channels, Z latent size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dlsvc.errors import UsageError
from dlsvc.registry import register_model

# The encoder halves the image twice: 28 -> 14 -> 7.
_DOWN = 4


class Encoder(nn.Module):
    """Image to the mean and the log-variance of its latent."""

    def __init__(self, *, in_channels: int, base_channels: int, side: int, latent_dim: int) -> None:
        super().__init__()
        width = 2 * base_channels
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, base_channels, 4, stride=2, padding=1),  # 28 -> 14
            nn.ReLU(),
            nn.Conv2d(base_channels, width, 4, stride=2, padding=1),  # 14 -> 7
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.mean = nn.Linear(width * side * side, latent_dim)
        self.logvar = nn.Linear(width * side * side, latent_dim)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = self.layers(image)
        return self.mean(x), self.logvar(x)  # (B, Z) each


class Decoder(nn.Module):
    """Latent to the logits of the pixels."""

    def __init__(self, *, out_channels: int, base_channels: int, side: int, latent_dim: int) -> None:
        super().__init__()
        width = 2 * base_channels
        self.layers = nn.Sequential(
            nn.Linear(latent_dim, width * side * side),
            nn.ReLU(),
            nn.Unflatten(1, (width, side, side)),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, base_channels, 4, stride=2, padding=1),  # 7 -> 14
            nn.ReLU(),
            nn.ConvTranspose2d(base_channels, out_channels, 4, stride=2, padding=1),  # 14 -> 28
        )

    def forward(self, latent: Tensor) -> Tensor:
        logits: Tensor = self.layers(latent)  # (B, Z) -> (B, C, H, W)
        return logits


@register_model(
    "vae",
    task="reconstruction",
    metric="elbo",
    tiny={"image_size": 8, "base_channels": 4, "latent_dim": 3},
)
class VAE(nn.Module):
    """Auto-encoding variational Bayes (Kingma and Welling, 2014), with a convolutional encoder and decoder.

    `reconstruction` is the logits of the pixels: their sigmoid is the image in [0, 1]. Without an image, `noise` itself
    is the latent, and the reconstruction a sample from the prior.
    """

    def __init__(
        self, *, image_size: int = 28, in_channels: int = 1, base_channels: int = 32, latent_dim: int = 20
    ) -> None:
        super().__init__()
        if image_size % _DOWN:
            raise UsageError(f"vae: image_size must be a multiple of {_DOWN}, not {image_size}")
        self.latent_shape = (latent_dim,)
        side = image_size // _DOWN
        self.encoder = Encoder(in_channels=in_channels, base_channels=base_channels, side=side, latent_dim=latent_dim)
        self.decoder = Decoder(out_channels=in_channels, base_channels=base_channels, side=side, latent_dim=latent_dim)

    def forward(self, image: Tensor | None, noise: Tensor) -> dict[str, Tensor]:
        if image is None:
            return {"reconstruction": self.decoder(noise)}
        mean, logvar = self.encoder(image)
        latent = mean + torch.exp(0.5 * logvar) * noise  # the reparameterisation trick, section 2.4
        return {"reconstruction": self.decoder(latent), "mean": mean, "logvar": logvar, "latent": latent}
