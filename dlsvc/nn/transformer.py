"""Transformer blocks with the norm before each sub-layer."""

from __future__ import annotations

from torch import Tensor, nn

from dlsvc.nn.activation import build_activation
from dlsvc.nn.attention import MultiHeadAttention
from dlsvc.nn.similarity import SimilarityName


class FeedForward(nn.Module):
    """Two linear layers on each position (Vaswani et al., 2017, section 3.3)."""

    def __init__(self, *, d_model: int, hidden_dim: int, activation: str = "gelu", dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(d_model, hidden_dim)
        self.activation = build_activation(activation)
        self.fc2 = nn.Linear(hidden_dim, d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.dropout(self.activation(self.fc1(x)))  # (B, T, D) -> (B, T, hidden_dim)
        out: Tensor = self.dropout(self.fc2(hidden))
        return out


class Block(nn.Module):
    """Self-attention, then a feed-forward layer, each on the normalised stream and added to it (Xiong et al., 2020)."""

    def __init__(
        self,
        *,
        d_model: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        activation: str = "gelu",
        dropout: float = 0.0,
        norm_eps: float = 1e-5,
        similarity: SimilarityName = "scaled-dot",
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(d_model, eps=norm_eps)
        self.attention = MultiHeadAttention(
            d_model=d_model, num_heads=num_heads, dropout=dropout, similarity=similarity
        )
        self.dropout = nn.Dropout(dropout)
        self.norm2 = nn.LayerNorm(d_model, eps=norm_eps)
        hidden_dim = round(d_model * mlp_ratio)
        self.mlp = FeedForward(d_model=d_model, hidden_dim=hidden_dim, activation=activation, dropout=dropout)

    def forward(self, x: Tensor, *, is_causal: bool = False, keep: Tensor | None = None) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x), is_causal=is_causal, keep=keep))  # (B, T, D)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out
