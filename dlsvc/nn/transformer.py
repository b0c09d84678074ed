"""Transformer blocks, with the norm before each sub-layer or after it, and with or without a context."""

from __future__ import annotations

from torch import Tensor, nn

from dlsvc.nn.activation import build_activation
from dlsvc.nn.attention import Memory, MultiHeadAttention
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
    """Self-attention, with `context_dim` attention to a context, then a feed-forward layer, each added to the stream:
    of what was normalised before it (Xiong et al., 2020), or with `post_norm` normalised after it (Vaswani et al.,
    2017, section 3.1).
    """

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
        post_norm: bool = False,
        context_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.post_norm = post_norm
        self.norm1 = nn.LayerNorm(d_model, eps=norm_eps)
        self.attention = MultiHeadAttention(
            d_model=d_model, num_heads=num_heads, dropout=dropout, similarity=similarity
        )
        self.dropout = nn.Dropout(dropout)
        if context_dim is not None:
            self.context_norm = nn.LayerNorm(d_model, eps=norm_eps)
            self.context_attention = MultiHeadAttention(
                d_model=d_model, num_heads=num_heads, context_dim=context_dim, dropout=dropout
            )
        self.norm2 = nn.LayerNorm(d_model, eps=norm_eps)
        hidden_dim = round(d_model * mlp_ratio)
        self.mlp = FeedForward(d_model=d_model, hidden_dim=hidden_dim, activation=activation, dropout=dropout)

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        is_causal: bool = False,
        keep: Tensor | None = None,
        context_keep: Tensor | None = None,
        memories: tuple[Memory, Memory] | None = None,
    ) -> Tensor:
        """(B, T, D) to the same. `memories` are those of the stream and of the context."""
        own, other = memories or (None, None)
        y = x if self.post_norm else self.norm1(x)
        x = x + self.dropout(self.attention(y, is_causal=is_causal, keep=keep, memory=own))
        x = self.norm1(x) if self.post_norm else x
        if context is not None:
            y = x if self.post_norm else self.context_norm(x)
            x = x + self.dropout(self.context_attention(y, context, keep=context_keep, memory=other))
            x = self.context_norm(x) if self.post_norm else x
        x = x + self.mlp(x if self.post_norm else self.norm2(x))
        return self.norm2(x) if self.post_norm else x


def block_memories(num_layers: int) -> list[tuple[Memory, Memory]]:
    """An empty memory of its stream and one of its context for each block."""
    return [(Memory(), Memory(fixed=True)) for _ in range(num_layers)]
