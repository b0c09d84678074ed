"""Residual networks of 18, 34 and 50 layers.

B batch, C channels, S side.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.errors import UsageError
from dlsvc.registry import register_model

_BOTTLENECK_EXPANSION = 4


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut (the paper's figure 5, left)."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.shortcut = _shortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))  # (B, C, S / stride, S / stride)
        y = self.norm2(self.conv2(y))
        return F.relu(y + self.shortcut(x))


class Bottleneck(nn.Module):
    """A 3 x 3 convolution between two of 1 x 1, the last four times as wide (figure 5, right). The stride is in the
    3 x 3 convolution, as everybody has it since fb.resnet.torch; the paper's is in the first.
    """

    expansion = _BOTTLENECK_EXPANSION

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(out_channels)
        self.shortcut = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))  # (B, C, S, S)
        y = F.relu(self.norm2(self.conv2(y)))  # (B, C, S / stride, S / stride)
        y = self.norm3(self.conv3(y))  # (B, 4 C, S / stride, S / stride)
        return F.relu(y + self.shortcut(x))


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """The identity, or where the shape changes a projection (option B)."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    projection = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
    return nn.Sequential(projection, nn.BatchNorm2d(out_channels))


_BLOCKS: dict[str, type[BasicBlock] | type[Bottleneck]] = {"basic": BasicBlock, "bottleneck": Bottleneck}


@register_model(
    "resnet34",
    task="classification",
    tiny={"image_size": 16, "num_classes": 3, "layers": (1, 2), "base_channels": 4, "stem": "small"},
)
class ResNet34(nn.Module):
    """Deep residual learning (He, Zhang, Ren and Sun, 2016), 34 layers by default. `encode` gives the mean over the
    last feature map.

    `layers=(2, 2, 2, 2)` makes 18 layers of it, `block="bottleneck"` 50. Each further stage has twice the width and
    half the side. The `small` stem is for images of some 32 pixels: one 3 x 3 convolution, as in the paper's section
    4.2, where the other would leave a quarter of the side.
    """

    def __init__(
        self,
        *,
        image_size: int = 224,
        in_channels: int = 3,
        num_classes: int = 1000,
        layers: tuple[int, ...] = (3, 4, 6, 3),
        block: Literal["basic", "bottleneck"] = "basic",
        base_channels: int = 64,
        stem: Literal["paper", "small"] = "paper",
    ) -> None:
        super().__init__()
        if not layers or min(layers) < 1:
            raise UsageError(f"resnet34: layers must hold at least one block a stage, not {tuple(layers)}")
        self.image_size = image_size
        kernel, stride = (7, 2) if stem == "paper" else (3, 1)
        self.conv1 = nn.Conv2d(in_channels, base_channels, kernel, stride, padding=kernel // 2, bias=False)
        self.norm1 = nn.BatchNorm2d(base_channels)
        self.pool = nn.MaxPool2d(3, 2, padding=1) if stem == "paper" else nn.Identity()
        make, width = _BLOCKS[block], base_channels
        self.stages = nn.ModuleList()
        for stage, num_blocks in enumerate(layers):
            channels = base_channels * 2**stage
            strides = [1 if stage == 0 else 2] + [1] * (num_blocks - 1)
            widths = [width] + [channels * make.expansion] * (num_blocks - 1)
            pairs = zip(widths, strides, strict=True)
            self.stages.append(nn.Sequential(*(make(before, channels, step) for before, step in pairs)))
            width = channels * make.expansion
        self.head = nn.Linear(width, num_classes)
        self.apply(_initialise)

    def encode(self, image: Tensor) -> Tensor:
        side = self.image_size
        if image.shape[-2:] != (side, side):
            raise UsageError(f"resnet34: images are {tuple(image.shape[-2:])}, the model's image_size is {side}")
        x = F.relu(self.norm1(self.conv1(image)))  # (B, C, 224, 224) -> (B, 64, 112, 112)
        x = self.pool(x)  # (B, 64, 56, 56)
        for stage in self.stages:
            x = stage(x)  # (B, 64, 56, 56), (B, 128, 28, 28), (B, 256, 14, 14), (B, 512, 7, 7)
        vector: Tensor = x.mean((2, 3))  # (B, 512)
        return vector

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encode(image))  # (B, num_classes)
        return logits


def _initialise(module: nn.Module) -> None:
    """As He et al. (2015) draw weights for ReLU; norms begin at 1 and 0 by themselves."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
