"""SRResNet: an image enlarged by residual blocks and sub-pixel convolutions.

B batch, C channels, F features, S scale.
"""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.nn.fanned import fanned
from dlsvc.registry import register_model


class ResidualBlock(nn.Module):
    """Two convolutions beside a bypass; a parametric ReLU between them."""

    def __init__(self, width: int, *, batch_norm: bool) -> None:
        super().__init__()
        # A bias before a batch norm has no effect.
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=not batch_norm)
        self.norm1 = nn.BatchNorm2d(width) if batch_norm else nn.Identity()
        self.activation = nn.PReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=not batch_norm)
        self.norm2 = nn.BatchNorm2d(width) if batch_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = fanned(x)
        inner = self.activation(self.norm1(self.conv1(x)))
        found: Tensor = x + self.norm2(self.conv2(inner))  # (B, F, H, W)
        return found


class Doubling(nn.Module):
    """Twice the side: each pixel's new neighbours come from channels of its own (Shi et al. 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, 4 * width, 3, padding=1)
        self.activation = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        larger: Tensor = self.activation(F.pixel_shuffle(self.conv(x), 2))  # (B, F, H, W) -> (B, F, 2H, 2W)
        return larger


@register_model("srresnet", task="super-resolution", tiny={"scale": 2, "channels": 8, "num_blocks": 1})
class SRResNet(nn.Module):
    """The generator of SRGAN, trained by itself (Ledig et al. 2017, figure 4). The defaults are the paper's.

    `forward(image)` enlarges (B, C, H, W) to (B, C, S H, S W); both are in [-1, 1], of any size. With `from_bicubic`
    the network adds to a bicubic enlargement what that lacks, and begins as one, which the paper's doesn't: a small
    network then spends its training on detail (Kim, Lee and Lee 2016).
    """

    def __init__(
        self,
        *,
        scale: Literal[2, 4] = 4,
        in_channels: int = 3,
        channels: int = 64,
        num_blocks: int = 16,
        batch_norm: bool = True,
        from_bicubic: bool = False,
    ) -> None:
        super().__init__()
        self.scale, self.from_bicubic = scale, from_bicubic
        self.enter = nn.Conv2d(in_channels, channels, 9, padding=4)
        self.activation = nn.PReLU()
        self.blocks = nn.Sequential(*(ResidualBlock(channels, batch_norm=batch_norm) for _ in range(num_blocks)))
        self.bridge = nn.Conv2d(channels, channels, 3, padding=1, bias=not batch_norm)
        self.norm = nn.BatchNorm2d(channels) if batch_norm else nn.Identity()
        self.enlarge = nn.Sequential(*(Doubling(channels) for _ in range(int(math.log2(scale)))))
        self.leave = nn.Conv2d(channels, in_channels, 9, padding=4)
        if from_bicubic:
            nn.init.zeros_(self.leave.weight)
            nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:
        x = self.activation(self.enter(image))  # (B, C, H, W) -> (B, F, H, W)
        x = x + self.norm(self.bridge(self.blocks(x)))
        detail: Tensor = self.leave(self.enlarge(x))  # (B, C, S H, S W)
        if not self.from_bicubic:
            return detail
        return detail + F.interpolate(image, scale_factor=self.scale, mode="bicubic", align_corners=False)
