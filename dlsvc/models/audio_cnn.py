"""A convolutional network on spectrograms.

B batch, M bins, T steps, C channels.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.errors import UsageError
from dlsvc.registry import register_model


class ConvBlock(nn.Module):
    """Two 3 x 3 convolutions with batch norm, then half the bins and half the steps."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.conv1(x)))  # (B, C, M, T)
        return F.avg_pool2d(F.relu(self.norm2(self.conv2(x))), 2)  # (B, C, M // 2, T // 2)


@register_model(
    "audio_cnn", task="classification", tiny={"num_bins": 16, "num_classes": 3, "channels": (4, 8), "embed_dim": 16}
)
class AudioCNN(nn.Module):
    """PANNs' CNN (Kong et al., 2020), CNN10 by default: blocks of two convolutions, the mean over what is left of the
    bins, the maximum and the mean over time, one hidden layer. `encode` gives that layer. The published network's first
    norm is left out: bins come standardised.

    Any number of steps that leaves one after the blocks is taken, so clips may be of another length than trained on.
    """

    def __init__(
        self,
        *,
        num_bins: int = 64,
        channels: tuple[int, ...] = (64, 128, 256, 512),
        embed_dim: int = 512,
        dropout: float = 0.0,
        num_classes: int = 527,
    ) -> None:
        super().__init__()
        if not channels or num_bins < 2 ** len(channels):
            raise UsageError(f"audio_cnn: {num_bins} bins can't be halved {len(channels)} times; give fewer channels")
        self.num_bins = num_bins
        self.num_blocks = len(channels)
        widths = (1, *channels)
        self.blocks = nn.ModuleList(ConvBlock(one, other) for one, other in zip(widths, channels, strict=False))
        self.dropout = nn.Dropout(dropout)
        self.embed = nn.Linear(channels[-1], embed_dim)
        self.head = nn.Linear(embed_dim, num_classes)

    def encode(self, spectrogram: Tensor) -> Tensor:
        bins, steps = spectrogram.shape[-2:]
        if bins != self.num_bins or steps < 2**self.num_blocks:
            least = 2**self.num_blocks
            raise UsageError(f"audio_cnn: takes {self.num_bins} bins and {least} steps or more, not {bins} x {steps}")
        x = spectrogram  # (B, 1, M, T)
        for block in self.blocks:
            x = self.dropout(block(x))
        x = x.mean(dim=2)  # (B, C, T')
        return F.relu(self.embed(self.dropout(x.amax(dim=2) + x.mean(dim=2))))  # (B, E)

    def forward(self, spectrogram: Tensor) -> Tensor:
        logits: Tensor = self.head(self.dropout(self.encode(spectrogram)))  # (B, num_classes)
        return logits
