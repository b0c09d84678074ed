"""The Q-Former: learned queries that read an image, and texts that share their self-attention.

B batch, Q queries, T tokens, L = Q + T, D width, S tokens of an image, E their width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dlsvc.nn.attention import Memory, MultiHeadAttention
from dlsvc.nn.grounded import SharedStack
from dlsvc.nn.transformer import FeedForward


class QFormerBlock(nn.Module):
    """Self-attention of queries and words together, attention of the queries to the image in every other block, and a
    feed-forward layer for either (Li et al. 2023, section 3.1). The norm comes after each, as in BERT.
    """

    def __init__(
        self,
        *,
        d_model: int,
        num_heads: int,
        context_dim: int | None,
        mlp_ratio: float,
        dropout: float,
        norm_eps: float,
        with_text: bool,
    ) -> None:
        super().__init__()
        hidden_dim = round(d_model * mlp_ratio)
        self.attention = MultiHeadAttention(d_model=d_model, num_heads=num_heads, dropout=dropout)
        self.norm1 = nn.LayerNorm(d_model, eps=norm_eps)
        self.reads_image = context_dim is not None
        if context_dim is not None:
            self.context_attention = MultiHeadAttention(
                d_model=d_model, num_heads=num_heads, context_dim=context_dim, dropout=dropout
            )
            self.context_norm = nn.LayerNorm(d_model, eps=norm_eps)
        self.query_mlp = FeedForward(d_model=d_model, hidden_dim=hidden_dim, dropout=dropout)
        self.query_norm = nn.LayerNorm(d_model, eps=norm_eps)
        if with_text:
            self.mlp = FeedForward(d_model=d_model, hidden_dim=hidden_dim, dropout=dropout)
            self.norm2 = nn.LayerNorm(d_model, eps=norm_eps)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        num_queries: int,
        image: Tensor | None,
        *,
        keep: Tensor | None = None,
        visible: Tensor | None = None,
        memory: Memory | None = None,
    ) -> Tensor:
        """(B, L, D) to the same, the queries first."""
        x = self.norm1(x + self.dropout(self.attention(x, keep=keep, visible=visible, memory=memory)))
        parts = []
        if num_queries:
            queries = x[:, :num_queries]
            if self.reads_image:
                assert image is not None
                queries = self.context_norm(queries + self.dropout(self.context_attention(queries, image)))
            parts.append(self.query_norm(queries + self.query_mlp(queries)))
        if num_queries < x.shape[1]:
            words = x[:, num_queries:]
            parts.append(self.norm2(words + self.mlp(words)))
        return torch.cat(parts, dim=1)


class QFormer(nn.Module):
    """Queries and, with a `vocab_size`, texts; `cross_every` blocks there is one that reads the image."""

    def __init__(
        self,
        *,
        num_queries: int,
        context_dim: int,
        vocab_size: int | None,
        max_seq_len: int,
        d_model: int,
        num_layers: int,
        num_heads: int,
        mlp_ratio: float,
        cross_every: int,
        dropout: float,
        norm_eps: float,
        init_std: float = 0.02,
    ) -> None:
        super().__init__()
        self.max_seq_len = max_seq_len
        self.queries = nn.Parameter(torch.zeros(num_queries, d_model))
        self.norm = nn.LayerNorm(d_model, eps=norm_eps)
        self.dropout = nn.Dropout(dropout)
        self.tokens = nn.Embedding(vocab_size, d_model) if vocab_size else None
        self.positions = nn.Embedding(max_seq_len, d_model) if vocab_size else None
        self.blocks = SharedStack(
            QFormerBlock(
                d_model=d_model,
                num_heads=num_heads,
                context_dim=context_dim if place % cross_every == 0 else None,
                mlp_ratio=mlp_ratio,
                dropout=dropout,
                norm_eps=norm_eps,
                with_text=vocab_size is not None,
            )
            for place in range(num_layers)
        )
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2:
                nn.init.normal_(parameter, std=init_std)

    def forward(
        self,
        image: Tensor | None,
        tokens: Tensor | None = None,
        keep: Tensor | None = None,
        *,
        writes: bool = False,
        start: int = 0,
        memories: list[Memory] | None = None,
    ) -> Tensor:
        """What queries and words have come to, (B, L, D): queries when an image (B, S, E) is given, words when tokens
        (B, T) are. When it `writes`, a word sees the queries and what was before it, and queries see only each other;
        else all see all. With memories what is given goes on where those end, the words from place `start` on.
        """
        parts = []
        if image is not None:
            parts.append(self.queries.expand(len(image), -1, -1))
        num_queries = parts[0].shape[1] if parts else 0
        if tokens is not None:
            assert self.tokens is not None
            assert self.positions is not None
            parts.append(self.tokens(tokens) + self.positions.weight[start : start + tokens.shape[1]])
        x: Tensor = self.dropout(self.norm(torch.cat(parts, dim=1)))
        if keep is not None and num_queries:
            keep = torch.cat([keep.new_ones(len(keep), num_queries), keep], dim=1)
        visible = _written_after(num_queries, x.shape[1], x.device) if writes and memories is None else None
        for place, block in enumerate(self.blocks):
            memory = memories[place] if memories else None
            x = block(x, num_queries, image, keep=keep, visible=visible, memory=memory)
        return x


def _written_after(num_queries: int, length: int, device: torch.device) -> Tensor:
    """Who may see whom, (L, L): queries each other, words the queries and what is not after them."""
    visible = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    visible[:num_queries, :num_queries] = True
    return visible
