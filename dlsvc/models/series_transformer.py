"""A transformer on patches of series, each channel by itself.

B batch, C channels, T steps, P patches of L steps, D width.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from dlsvc.errors import UsageError
from dlsvc.nn.attention import MultiHeadAttention
from dlsvc.nn.transformer import FeedForward
from dlsvc.registry import register_model

_INIT_STD = 0.02
_LEAST_DEVIATION = 1e-5


class TokenBatchNorm(nn.BatchNorm1d):
    """A batch norm over all tokens of all series, (B, P, D)."""

    def forward(self, input: Tensor) -> Tensor:  # torch's name for it
        return super().forward(input.transpose(1, 2)).transpose(1, 2)


class PatchBlock(nn.Module):
    """A transformer block with the norm before each sub-layer; of batches, as the paper found better for series."""

    def __init__(
        self, *, d_model: int, num_heads: int, hidden_dim: int, norm: str, dropout: float, norm_eps: float
    ) -> None:
        super().__init__()
        make = TokenBatchNorm if norm == "batch" else nn.LayerNorm
        self.norm1 = make(d_model, eps=norm_eps)
        self.attention = MultiHeadAttention(d_model=d_model, num_heads=num_heads, dropout=dropout)
        self.norm2 = make(d_model, eps=norm_eps)
        self.mlp = FeedForward(d_model=d_model, hidden_dim=hidden_dim, dropout=dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x)))  # (B * C, P, D)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


@register_model(
    "series_transformer",
    task="classification",
    tiny={
        "in_channels": 2,
        "num_steps": 24,
        "patch_len": 8,
        "stride": 4,
        "d_model": 16,
        "num_layers": 2,
        "num_heads": 2,
        "hidden_dim": 32,
        "num_classes": 3,
    },
)
class SeriesTransformer(nn.Module):
    """PatchTST (Nie et al., 2023) as a classifier: each channel is standardised by its own window, cut into patches,
    which are the tokens, and all channels go through the same blocks. The mean over a channel's patches is its vector;
    `encode` gives those of all channels, one after the other.

    Standardising takes a window's level and strength away; with `scaling: none` they stay.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        num_steps: int = 336,
        patch_len: int = 16,
        stride: int = 8,
        d_model: int = 128,
        num_layers: int = 3,
        num_heads: int = 16,
        hidden_dim: int = 256,
        scaling: Literal["std", "none"] = "std",
        norm: Literal["batch", "layer"] = "batch",
        dropout: float = 0.0,
        num_classes: int = 2,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        if num_steps < patch_len:
            raise UsageError(f"series_transformer: {num_steps} steps hold no patch of {patch_len}")
        self.shape = (in_channels, num_steps)
        self.scaling, self.patch_len, self.stride = scaling, patch_len, stride
        num_patches = (num_steps - patch_len) // stride + 1
        self.patches = nn.Linear(patch_len, d_model)
        self.positions = nn.Parameter(torch.zeros(num_patches, d_model))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            PatchBlock(
                d_model=d_model,
                num_heads=num_heads,
                hidden_dim=hidden_dim,
                norm=norm,
                dropout=dropout,
                norm_eps=norm_eps,
            )
            for _ in range(num_layers)
        )
        self.head = nn.Linear(d_model * in_channels, num_classes)
        nn.init.trunc_normal_(self.positions, std=_INIT_STD)

    def encode(self, series: Tensor) -> Tensor:
        """The series as one vector, (B, C * D)."""
        if tuple(series.shape[1:]) != self.shape:
            found, own = ("{} channels of {} steps".format(*shape) for shape in (series.shape[1:], self.shape))
            raise UsageError(f"series_transformer: series have {found}, the model takes {own}")
        if self.scaling == "std":
            centred = series - series.mean(2, keepdim=True)
            deviation = (centred.square().mean(2, keepdim=True) + _LEAST_DEVIATION).sqrt()
            series = centred / deviation
        # Windows count from the end, so that what doesn't fill a patch is the oldest.
        spare = (series.shape[2] - self.patch_len) % self.stride
        windows = series[:, :, spare:].unfold(2, self.patch_len, self.stride)  # (B, C, P, L)
        x = self.dropout(self.patches(windows) + self.positions).flatten(0, 1)  # (B * C, P, D)
        for block in self.blocks:
            x = block(x)
        vector: Tensor = x.mean(1).unflatten(0, (len(series), -1)).flatten(1)  # (B, C * D)
        return vector

    def forward(self, series: Tensor) -> Tensor:
        logits: Tensor = self.head(self.dropout(self.encode(series)))  # (B, num_classes)
        return logits
