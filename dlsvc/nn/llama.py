"""The blocks of Llama's family.

B batch, T tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.nn.attention import Memory, MultiHeadAttention
from dlsvc.nn.fanned import fanned


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps), times a learned gain (Zhang and Sennrich, 2019), in float32."""

    def __init__(self, d_model: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))

    def forward(self, x: Tensor) -> Tensor:
        wide = fanned(x).float()
        scaled = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * scaled.to(x.dtype)


class GatedFeedForward(nn.Module):
    """SwiGLU (Shazeer, 2020): silu(x G) * (x U), then D."""

    def __init__(self, *, d_model: int, hidden_dim: int) -> None:
        super().__init__()
        self.gate = nn.Linear(d_model, hidden_dim, bias=False)
        self.up = nn.Linear(d_model, hidden_dim, bias=False)
        self.down = nn.Linear(hidden_dim, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = fanned(x)
        out: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return out


class LlamaBlock(nn.Module):
    """Rotary attention with shared keys and values, then SwiGLU, each of what RMSNorm made of the stream."""

    def __init__(
        self,
        *,
        d_model: int,
        num_heads: int,
        num_kv_heads: int,
        hidden_dim: int,
        rotary_base: float,
        dropout: float,
        norm_eps: float,
    ) -> None:
        super().__init__()
        self.norm1 = RMSNorm(d_model, norm_eps)
        self.attention = MultiHeadAttention(
            d_model=d_model,
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            bias=False,
            output_bias=False,
            dropout=dropout,
            rotary_base=rotary_base,
        )
        self.norm2 = RMSNorm(d_model, norm_eps)
        self.mlp = GatedFeedForward(d_model=d_model, hidden_dim=hidden_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, *, positions: Tensor, keep: Tensor | None, memory: Memory | None) -> Tensor:
        y = self.attention(self.norm1(x), is_causal=True, keep=keep, positions=positions, memory=memory)
        x = x + self.dropout(y)
        out: Tensor = x + self.dropout(self.mlp(self.norm2(x)))
        return out
