"""U-Net: an encoder whose features are concatenated to the decoder's at every resolution.

B batch, C channels (`base_channels`), K classes. Sizes in comments are the paper's, for 572 x 572.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.errors import UsageError
from dlsvc.nn.convolution import Convolution, check_padding
from dlsvc.registry import register_model


class Block(nn.Sequential):
    """Two convolutions of 3 x 3, each with a ReLU."""

    def __init__(self, in_channels: int, out_channels: int, padding: Literal["valid", "same"], batch_norm: bool):
        layers: list[nn.Module] = []
        for width in (in_channels, out_channels):
            # A norm takes a bias away again: its gradient would be rounding noise, which Adam makes full steps of.
            layers.append(Convolution(width, out_channels, 3, padding=padding, bias=not batch_norm))
            layers += [nn.BatchNorm2d(out_channels), nn.ReLU()] if batch_norm else [nn.ReLU()]
        super().__init__(*layers)


class Up(nn.Module):
    """Twice the size and half the channels, then the encoder's features beside them."""

    def __init__(self, channels: int, padding: Literal["valid", "same"], batch_norm: bool) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(2 * channels, channels, 2, stride=2)
        self.block = Block(2 * channels, channels, padding, batch_norm)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.up(x)  # (B, 2C, n, n) -> (B, C, 2n, 2n)
        margin = (skip.shape[-1] - x.shape[-1]) // 2  # 0 with `same`
        skip = skip[..., margin : margin + x.shape[-2], margin : margin + x.shape[-1]]
        found: Tensor = self.block(torch.cat([skip, x], dim=1))
        return found


@register_model(
    "unet",
    task="segmentation",
    tiny={
        "image_size": 16,
        "num_classes": 3,
        "base_channels": 4,
        "depth": 2,
        "padding": "same",
        "dropout": 0.0,
        "batch_norm": True,
    },
)
class UNet(nn.Module):
    """U-Net (Ronneberger, Fischer and Brox, 2015), with He's initialisation as there.

    `padding: valid` crops the skips and gives logits of the image's middle only, as in the paper; `same` gives them of
    all of it. `depth` is how often the encoder halves the image. `dropout` is at the end of the encoder. `batch_norm`
    is not of the paper, and trains faster.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        image_size: int = 572,
        num_classes: int = 2,
        base_channels: int = 64,
        depth: int = 4,
        padding: Literal["valid", "same"] = "valid",
        dropout: float = 0.5,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        check_padding(padding)
        _check_size(image_size, depth, padding)
        widths = [base_channels * 2**level for level in range(depth + 1)]
        self.first = Block(in_channels, widths[0], padding, batch_norm)
        self.downs = nn.ModuleList(
            Block(before, after, padding, batch_norm) for before, after in zip(widths[:-1], widths[1:], strict=True)
        )
        self.dropout = nn.Dropout(dropout)
        self.ups = nn.ModuleList(Up(width, padding, batch_norm) for width in reversed(widths[:-1]))
        self.head = nn.Conv2d(base_channels, num_classes, 1)
        for module in self.modules():
            if isinstance(module, Convolution):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)  # (B, C, 568, 568)
        skips = []
        for down in self.downs:
            skips.append(x)
            x = down(F.max_pool2d(x, 2))  # (B, 2C, 280, 280) ... (B, 16C, 28, 28)
        x = self.dropout(x)
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            x = up(x, skip)  # (B, 8C, 52, 52) ... (B, C, 388, 388)
        logits: Tensor = self.head(x)  # (B, K, 388, 388)
        return logits


def _check_size(image_size: int, depth: int, padding: str) -> None:
    """Every pooling halves an even size. Raises UsageError."""
    lost = 4 if padding == "valid" else 0
    size = image_size
    for _ in range(depth):
        size -= lost
        if size % 2 or size <= 0:
            raise UsageError(f"unet: an image of {image_size} can't be halved {depth} times with padding {padding}")
        size //= 2
    # What is left of the smallest, and of it again at every resolution on the way up.
    size -= lost
    for _ in range(depth):
        size = 2 * size - lost
    if size <= 0:
        raise UsageError(f"unet: nothing is left of an image of {image_size} at depth {depth} with padding {padding}")
