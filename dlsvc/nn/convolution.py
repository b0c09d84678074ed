"""Convolutions with the two paddings of the textbooks, at any stride; and those that must not read channels last."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.errors import UsageError, did_you_mean

Padding = Literal["valid", "same"]
_PADDINGS = ("valid", "same")
# Channels that oneDNN's kernels take at once, at most.
_BLOCK = 16


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


def guard(model: nn.Module) -> nn.Module:
    """The model, its strided 1 x 1 convolutions of few channels fed channel by channel. Of channels-last inputs oneDNN
    computes their weights' gradient past the end of its memory (uxlfoundation/oneDNN issue 6035).
    """
    for part in model.modules():
        if isinstance(part, nn.Conv2d) and _is_endangered(part):
            part.register_forward_pre_hook(_channel_by_channel)
    return model


def _is_endangered(part: nn.Conv2d) -> bool:
    return part.in_channels < _BLOCK and set(part.kernel_size) == {1} and max(part.stride) > 1


def _channel_by_channel(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0].contiguous(),)
