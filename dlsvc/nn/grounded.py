"""A stack of blocks that reads texts, with or without an image, and writes them.

B batch, T tokens, D width, S tokens of an image, E their width.
"""

from __future__ import annotations

from torch import Tensor, nn

from dlsvc.nn.attention import Memory, MultiHeadAttention
from dlsvc.nn.transformer import FeedForward


class SharedStack(nn.ModuleList):
    """Blocks that are passed several times in one step. Engines that gather stacks block by block keep this one whole,
    so that what the passes send back is added up in one order.
    """


class GroundedBlock(nn.Module):
    """BLIP's text block (Li et al. 2022, section 3.1): reading and writing have self-attention of their own and share
    the attention to an image and the feed-forward layer. The norm comes after each, as in BERT.
    """

    def __init__(
        self, *, d_model: int, num_heads: int, context_dim: int, mlp_ratio: float, dropout: float, norm_eps: float
    ) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(d_model=d_model, num_heads=num_heads, dropout=dropout)
        self.norm1 = nn.LayerNorm(d_model, eps=norm_eps)
        self.causal_attention = MultiHeadAttention(d_model=d_model, num_heads=num_heads, dropout=dropout)
        self.causal_norm = nn.LayerNorm(d_model, eps=norm_eps)
        self.context_attention = MultiHeadAttention(
            d_model=d_model, num_heads=num_heads, context_dim=context_dim, dropout=dropout
        )
        self.context_norm = nn.LayerNorm(d_model, eps=norm_eps)
        self.mlp = FeedForward(d_model=d_model, hidden_dim=round(d_model * mlp_ratio), dropout=dropout)
        self.norm2 = nn.LayerNorm(d_model, eps=norm_eps)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        writes: bool = False,
        keep: Tensor | None = None,
        memories: tuple[Memory, Memory] | None = None,
    ) -> Tensor:
        """(B, T, D) to the same, of a context (B, S, E) when there is one. `memories` are those of the text and of the
        context, for writing.
        """
        own, other = memories or (None, None)
        if writes:
            y = self.causal_attention(x, is_causal=True, keep=keep, memory=own)
            x = self.causal_norm(x + self.dropout(y))
        else:
            x = self.norm1(x + self.dropout(self.attention(x, keep=keep)))
        if context is not None:
            x = self.context_norm(x + self.dropout(self.context_attention(x, context, memory=other)))
        out: Tensor = self.norm2(x + self.mlp(x))
        return out
