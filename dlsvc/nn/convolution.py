"""Convolutions with the two paddings of the textbooks, at any stride."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.errors import UsageError, did_you_mean

Padding = Literal["valid", "same"]
_PADDINGS = ("valid", "same")


class Convolution(nn.Conv2d):
    """`valid` reads inside the image only: floor((n - k) / s) + 1 outputs a side. `same` adds zeros until there are
    ceil(n / s), the odd one after the end; torch's own `same` has no stride.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: Padding = "valid",
        bias: bool = True,
    ) -> None:
        check_padding(padding)
        super().__init__(in_channels, out_channels, kernel_size, stride=stride, bias=bias)
        self.zeros = padding == "same"

    def forward(self, input: Tensor) -> Tensor:  # torch's name for it
        if self.zeros:
            kernel, stride = self.kernel_size[0], self.stride[0]
            top, bottom = same_padding(input.shape[-2], kernel, stride)
            left, right = same_padding(input.shape[-1], kernel, stride)
            input = F.pad(input, (left, right, top, bottom))
        return super().forward(input)


def check_padding(padding: str) -> None:
    if padding not in _PADDINGS:
        raise UsageError(f"no padding is called {padding!r}{did_you_mean(padding, _PADDINGS)}")


def output_size(size: int, kernel: int, stride: int, padding: Padding) -> int:
    """Outputs along a side of `size`."""
    return -(-size // stride) if padding == "same" else (size - kernel) // stride + 1


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after a side."""
    total = max(0, (output_size(size, kernel, stride, "same") - 1) * stride + kernel - size)
    return total // 2, total - total // 2
