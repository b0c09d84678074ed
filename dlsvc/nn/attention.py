"""Multi-head attention, for every transformer here.

B batch, T target length, S source length, D width, N heads of width K.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.errors import UsageError
from dlsvc.nn.similarity import SimilarityName, build_similarity


class MultiHeadAttention(nn.Module):
    """Attention in several heads (Vaswani et al., 2017, section 3.2), by scaled dot products or another `similarity`.

    Attends to `context` (B, S, context_dim) when one is given, else to itself. `keep` (B, S) is False on positions that
    nobody may attend to; `is_causal` hides what comes after a position. Each query must be left with something to see.
    `bias` is that of queries, keys and values.
    """

    def __init__(
        self,
        *,
        d_model: int,
        num_heads: int,
        context_dim: int | None = None,
        bias: bool = True,
        output_bias: bool = True,
        dropout: float = 0.0,
        similarity: SimilarityName = "scaled-dot",
    ) -> None:
        super().__init__()
        if d_model % num_heads:
            raise UsageError(f"d_model {d_model} must be a multiple of num_heads {num_heads}")
        self.num_heads = num_heads
        self.dropout = dropout
        # The usual one is what the fused kernel computes.
        usual = similarity == "scaled-dot"
        self.similarity = (
            None if usual else build_similarity(similarity, num_heads=num_heads, width=d_model // num_heads)
        )
        self.query = nn.Linear(d_model, d_model, bias=bias)
        self.key = nn.Linear(context_dim or d_model, d_model, bias=bias)
        self.value = nn.Linear(context_dim or d_model, d_model, bias=bias)
        self.output = nn.Linear(d_model, d_model, bias=output_bias)
        if bias and similarity != "kernel":
            # It adds the same to all of a query's scores, which softmax takes away again: its gradient is zero but for
            # rounding, and Adam would blow that up to full steps. Kept for the field's weights, never trained.
            nn.init.zeros_(self.key.bias)
            self.key.bias.requires_grad_(False)

    def forward(
        self, x: Tensor, context: Tensor | None = None, *, is_causal: bool = False, keep: Tensor | None = None
    ) -> Tensor:
        source = x if context is None else context
        query, key, value = self._split(self.query(x)), self._split(self.key(source)), self._split(self.value(source))
        mask = attention_mask(query.shape[2], key.shape[2], is_causal, keep)
        heads = self._heads(query, key, value, is_causal, mask)
        mixed: Tensor = self.output(heads.transpose(1, 2).flatten(2))  # (B, N, T, K) -> (B, T, N * K) -> (B, T, D)
        return mixed

    def _heads(self, query: Tensor, key: Tensor, value: Tensor, is_causal: bool, mask: Tensor | None) -> Tensor:
        """The values that each query is given, (B, N, T, K)."""
        if self.similarity is not None:
            logits = self.similarity.logits(query, key)  # (B, N, T, S)
            if mask is None and is_causal:
                mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
            logits = logits if mask is None else logits.masked_fill(~mask, -torch.inf)
            return F.dropout(logits.softmax(-1), self.dropout, self.training) @ value
        # Without padding the kernel makes the causal mask itself.
        found: Tensor = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=is_causal and mask is None,
        )
        return found

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.num_heads, -1).transpose(1, 2)  # (B, T, D) -> (B, N, T, K)


def attention_mask(num_queries: int, num_keys: int, is_causal: bool, keep: Tensor | None) -> Tensor | None:
    """What each query may see, for padded keys: (B, 1, T or 1, S), True = see. None when nothing is padded."""
    if keep is None:
        return None
    padded = keep[:, None, None, :]
    if not is_causal:
        return padded
    return padded & torch.ones(num_queries, num_keys, dtype=torch.bool, device=keep.device).tril()
