"""EfficientNet: Lite0, and the B family.

B batch, C channels, S side.
"""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.errors import UsageError
from dlsvc.registry import register_model

# The paper's table 1: expansion, kernel, stride, width, blocks of each stage.
_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
_STEM_WIDTH, _HEAD_WIDTH = 32, 1280
_SQUEEZE_RATIO = 4
# TensorFlow's, with which the published weights were trained.
_NORM_EPS, _NORM_MOMENTUM = 1e-3, 0.01


class SameConv(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow's SAME: a stride of 2 pads an even side more on the right and
    below than on the left and above, which `padding=k // 2` doesn't.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if kernel == 1:
            return super().forward(x)
        height, width = (max((math.ceil(side / stride) - 1) * stride + kernel - side, 0) for side in x.shape[-2:])
        x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return super().forward(x)


class SqueezeExcite(nn.Module):
    """Channels weighed by what the whole map shows (Hu, Shen and Sun, 2018)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.expand(F.silu(self.reduce(x.mean((2, 3), keepdim=True))))  # (B, C, 1, 1)
        return x * F.sigmoid(weight)


class Block(nn.Module):
    """The inverted bottleneck of MobileNetV2 (Sandler et al., 2018): wider, then each channel by itself, then narrow
    again and without activation. Where the shape stays, the input is added.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, expansion: int, kernel: int, stride: int, lite: bool
    ) -> None:
        super().__init__()
        width = in_channels * expansion
        self.expand = _ConvNorm(in_channels, width, 1, lite=lite) if expansion > 1 else nn.Identity()
        self.depthwise = _ConvNorm(width, width, kernel, stride=stride, groups=width, lite=lite)
        self.squeeze = nn.Identity() if lite else SqueezeExcite(width, max(1, in_channels // _SQUEEZE_RATIO))
        self.project = SameConv(width, out_channels, 1)
        self.norm = _norm(out_channels)
        self.is_residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.expand(x)  # (B, C, S, S) -> (B, 6 C, S, S)
        y = self.squeeze(self.depthwise(y))  # (B, 6 C, S / stride, S / stride)
        y = self.norm(self.project(y))  # (B, C', S / stride, S / stride)
        return x + y if self.is_residual else y


class _ConvNorm(nn.Module):
    """A convolution, its norm, and the family's activation: ReLU6, which quantises well, in Lite, else SiLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1, lite: bool
    ) -> None:
        super().__init__()
        self.conv = SameConv(in_channels, out_channels, kernel, stride=stride, groups=groups)
        self.norm = _norm(out_channels)
        self.activation = nn.ReLU6() if lite else nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.activation(self.norm(self.conv(x)))
        return activated


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_NORM_EPS, momentum=_NORM_MOMENTUM)


@register_model(
    "efficientnet",
    task="classification",
    tiny={
        "image_size": 16,
        "in_channels": 1,
        "num_classes": 3,
        "width_factor": 0.25,
        "depth_factor": 0.3,
        "family": "b",
        "dropout": 0.0,
    },
)
class EfficientNet(nn.Module):
    """EfficientNet (Tan and Le, 2019), Lite0 by default (Liu, 2020): ReLU6, no squeeze and excitation, and a stem and
    a head that aren't scaled. `family="b"` is the paper's B0, and its factors of width and depth make the others.
    `encode` gives the mean over the last feature map.

    Stochastic depth, which the paper adds in training, is left out.
    """

    def __init__(
        self,
        *,
        image_size: int = 224,
        in_channels: int = 3,
        num_classes: int = 1000,
        family: Literal["lite", "b"] = "lite",
        width_factor: float = 1.0,
        depth_factor: float = 1.0,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        lite = family == "lite"
        ends_factor = 1.0 if lite else width_factor
        before = _width(_STEM_WIDTH, ends_factor)
        self.stem = _ConvNorm(in_channels, before, 3, stride=2, lite=lite)
        self.stages = nn.ModuleList()
        for place, (expansion, kernel, stride, channels, num_blocks) in enumerate(_STAGES):
            is_end = place in (0, len(_STAGES) - 1)
            depth = num_blocks if lite and is_end else math.ceil(num_blocks * depth_factor)
            width = _width(channels, width_factor)
            blocks = [
                Block(
                    width if number else before,
                    width,
                    expansion=expansion,
                    kernel=kernel,
                    stride=1 if number else stride,
                    lite=lite,
                )
                for number in range(depth)
            ]
            self.stages.append(nn.Sequential(*blocks))
            before = width
        features = _width(_HEAD_WIDTH, ends_factor)
        self.last = _ConvNorm(before, features, 1, lite=lite)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(features, num_classes)
        self.apply(_initialise)

    def encode(self, image: Tensor) -> Tensor:
        side = self.image_size
        if image.shape[-2:] != (side, side):
            raise UsageError(f"efficientnet: images are {tuple(image.shape[-2:])}, the model's image_size is {side}")
        x = self.stem(image)  # (B, C, 224, 224) -> (B, 32, 112, 112)
        for stage in self.stages:
            x = stage(x)  # sides 112, 56, 28, 14, 14, 7, 7
        vector: Tensor = self.last(x).mean((2, 3))  # (B, 320, 7, 7) -> (B, 1280)
        return vector

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.dropout(self.encode(image)))  # (B, num_classes)
        return logits


def _width(channels: int, factor: float) -> int:
    """Scaled to a multiple of 8, never more than a tenth below what was asked for."""
    scaled = channels * factor
    nearest = max(8, int(scaled + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * scaled else nearest


def _initialise(module: nn.Module) -> None:
    """As He et al. (2015) draw weights, by what each value feeds."""
    if isinstance(module, nn.Conv2d):
        fan_out = module.weight[0, 0].numel() * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
