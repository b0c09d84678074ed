"""The autoencoder of latent diffusion: images to small grids of latents and back.

B batch, C channels, Z channels of a latent, h and w its sides.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.errors import UsageError
from dlsvc.nn.denoiser import GridAttention, ResidualBlock, Upsample
from dlsvc.registry import register_model

_EPS = 1e-6


class Shrink(nn.Module):
    """Half the side by a strided convolution; zeros are added below and to the right only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return found


class Middle(nn.Module):
    """Block, attention of one head over the whole grid, block."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.first = ResidualBlock(channels, channels, None, groups, eps=_EPS)
        self.attention = GridAttention(channels, channels, groups, eps=_EPS)
        self.last = ResidualBlock(channels, channels, None, groups, eps=_EPS)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.last(self.attention(self.first(x)))
        return found


class Blocks(nn.Sequential):
    """Residual blocks, the first of which changes the number of channels."""

    def __init__(self, before: int, after: int, count: int, groups: int) -> None:
        pairs = [(before, after), *[(after, after)] * (count - 1)]
        super().__init__(*(ResidualBlock(*pair, None, groups, eps=_EPS) for pair in pairs))


class Encoder(nn.Module):
    """An image to the mean and the log-variance of its latent, one after the other: (B, C, H, W) -> (B, 2Z, h, w)."""

    def __init__(self, in_channels: int, widths: tuple[int, ...], blocks: int, groups: int, latent: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        before = (widths[0], *widths[:-1])
        self.down = nn.ModuleList(Blocks(*pair, blocks, groups) for pair in zip(before, widths, strict=True))
        self.shrink = nn.ModuleList(Shrink(width) for width in widths[:-1])
        self.middle = Middle(widths[-1], groups)
        self.norm = nn.GroupNorm(groups, widths[-1], eps=_EPS)
        self.leave = nn.Conv2d(widths[-1], 2 * latent, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.enter(image)
        for place, blocks in enumerate(self.down):
            x = blocks(x)
            x = self.shrink[place](x) if place < len(self.shrink) else x
        found: Tensor = self.leave(F.silu(self.norm(self.middle(x))))
        return found


class Decoder(nn.Module):
    """A latent to an image: (B, Z, h, w) -> (B, C, H, W), with a block more in each stage than the encoder has."""

    def __init__(self, out_channels: int, widths: tuple[int, ...], blocks: int, groups: int, latent: int) -> None:
        super().__init__()
        turned = widths[::-1]
        self.enter = nn.Conv2d(latent, turned[0], 3, padding=1)
        self.middle = Middle(turned[0], groups)
        before = (turned[0], *turned[:-1])
        self.up = nn.ModuleList(Blocks(*pair, blocks + 1, groups) for pair in zip(before, turned, strict=True))
        self.grow = nn.ModuleList(Upsample(width) for width in turned[:-1])
        self.norm = nn.GroupNorm(groups, widths[0], eps=_EPS)
        self.leave = nn.Conv2d(widths[0], out_channels, 3, padding=1)

    def forward(self, latent: Tensor) -> Tensor:
        x = self.middle(self.enter(latent))
        for place, blocks in enumerate(self.up):
            x = blocks(x)
            x = self.grow[place](x) if place < len(self.grow) else x
        found: Tensor = self.leave(F.silu(self.norm(x)))
        return found


@register_model(
    "kl_autoencoder",
    task="reconstruction",
    tiny={"image_size": 8, "in_channels": 1, "widths": (4, 8), "blocks": 1, "groups": 2, "latent_channels": 2},
)
class KLAutoencoder(nn.Module):
    """The first stage of latent diffusion (Rombach et al. 2022, section 3.1 and appendix G), with a Gaussian latent.

    The defaults are Stable Diffusion's: 256 pixels to 32 x 32 x 4. Images are in [-1, 1], and so are reconstructions,
    as far as they are learnt: train it with `task: {args: {likelihood: laplace}}`. Without an image, `noise` itself is
    the latent; with `decode=False` the latent is all that is computed.
    """

    def __init__(
        self,
        *,
        image_size: int = 256,
        in_channels: int = 3,
        widths: tuple[int, ...] = (128, 256, 512, 512),
        blocks: int = 2,
        groups: int = 32,
        latent_channels: int = 4,
    ) -> None:
        super().__init__()
        factor = 2 ** (len(widths) - 1)
        if image_size % factor:
            raise UsageError(
                f"kl_autoencoder: {len(widths)} widths halve the image {len(widths) - 1} times, so image_size must be "
                f"a multiple of {factor}, not {image_size}"
            )
        if any(width % groups for width in widths):
            raise UsageError(f"kl_autoencoder: every width must be a multiple of groups, {groups}: {widths}")
        side = image_size // factor
        self.latent_shape = (latent_channels, side, side)
        self.encoder = Encoder(in_channels, widths, blocks, groups, latent_channels)
        self.decoder = Decoder(in_channels, widths, blocks, groups, latent_channels)
        self.moments = nn.Conv2d(2 * latent_channels, 2 * latent_channels, 1)
        self.unfold = nn.Conv2d(latent_channels, latent_channels, 1)

    def forward(self, image: Tensor | None, noise: Tensor, decode: bool = True) -> dict[str, Tensor]:
        if image is None:
            return {"reconstruction": self.decoder(self.unfold(noise))}
        mean, logvar = self.moments(self.encoder(image)).chunk(2, dim=1)  # (B, Z, h, w) each
        logvar = logvar.clamp(-30, 20)
        latent = mean + torch.exp(0.5 * logvar) * noise
        found = {"mean": mean, "logvar": logvar, "latent": latent}
        return found | ({"reconstruction": self.decoder(self.unfold(latent))} if decode else {})
