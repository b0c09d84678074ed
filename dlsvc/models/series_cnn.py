"""A residual convolutional network in one dimension, for series of measurements.

B batch, C channels, T steps.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.errors import UsageError
from dlsvc.registry import register_model


class ResidualBlock(nn.Module):
    """Convolutions of 8, 5 and 3 steps, each with a batch norm, added to what came in."""

    def __init__(self, in_channels: int, out_channels: int, kernels: tuple[int, ...]) -> None:
        super().__init__()
        widths = (in_channels, *[out_channels] * len(kernels))
        self.convolutions = nn.ModuleList(
            nn.Conv1d(one, other, kernel, padding="same", bias=False)
            for one, other, kernel in zip(widths, widths[1:], kernels, strict=False)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(out_channels) for _ in kernels)
        projection = nn.Conv1d(in_channels, out_channels, 1, bias=False)
        self.shortcut = nn.Sequential(projection, nn.BatchNorm1d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        y = x  # (B, C, T)
        for place, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            y = norm(convolution(F.relu(y) if place else y))
        return F.relu(y + self.shortcut(x))


@register_model("series_cnn", task="classification", tiny={"in_channels": 2, "channels": (4, 8), "num_classes": 3})
class SeriesCNN(nn.Module):
    """The residual network for time series of Wang, Yan and Oates (2017, section II-C): blocks of three convolutions,
    and the mean over time, which `encode` gives. It takes series of any length.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        channels: tuple[int, ...] = (64, 128, 128),
        kernels: tuple[int, ...] = (8, 5, 3),
        dropout: float = 0.0,
        num_classes: int = 2,
    ) -> None:
        super().__init__()
        if not channels or not kernels:
            raise UsageError("series_cnn: give at least one of channels, a block each, and of kernels")
        self.in_channels = in_channels
        widths = (in_channels, *channels)
        self.blocks = nn.ModuleList(
            ResidualBlock(one, other, tuple(kernels)) for one, other in zip(widths, channels, strict=False)
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def encode(self, series: Tensor) -> Tensor:
        """The series as one vector, (B, C')."""
        if series.shape[1] != self.in_channels:
            raise UsageError(
                f"series_cnn: series have {series.shape[1]} channels, the model's in_channels is {self.in_channels}"
            )
        x = series  # (B, C, T)
        for block in self.blocks:
            x = block(x)
        return x.mean(2)

    def forward(self, series: Tensor) -> Tensor:
        logits: Tensor = self.head(self.dropout(self.encode(series)))  # (B, num_classes)
        return logits
