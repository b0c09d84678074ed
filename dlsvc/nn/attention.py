"""Multi-head attention, for every transformer here.

B batch, T target length, S source length, D width, N heads of width K, G heads of keys and values.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.errors import UsageError
from dlsvc.nn.fanned import fanned
from dlsvc.nn.positions import rotate
from dlsvc.nn.similarity import ScaledDot, SimilarityName, build_similarity


class Memory:
    """Keys and values of what one attention layer has read so far, so that the next token costs one token's work.

    With `fixed`, the keys and values of a context are computed at its first sight and kept.
    """

    def __init__(self, *, fixed: bool = False) -> None:
        self.fixed = fixed
        self.key: Tensor | None = None
        self.value: Tensor | None = None

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values, (B, G, S, K), these last."""
        if self.key is not None and self.value is not None:
            key, value = torch.cat([self.key, key], dim=2), torch.cat([self.value, value], dim=2)
        self.key, self.value = key, value
        return key, value

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order: what a beam goes on with."""
        if self.key is not None and self.value is not None:
            self.key, self.value = self.key[rows], self.value[rows]


class MultiHeadAttention(nn.Module):
    """Attention in several heads (Vaswani et al., 2017, section 3.2), by scaled dot products or another `similarity`.

    Attends to `context` (B, S, context_dim) when one is given, else to itself. `keep` (B, S) is False on positions that
    nobody may attend to; `is_causal` hides what comes after a position. Each query must be left with something to see.
    `bias` is that of queries, keys and values. `num_kv_heads` heads of keys and values serve all heads of queries in
    equal groups (Ainslie et al. 2023). With `rotary_base` queries and keys are turned by their positions (B, T).
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
        num_kv_heads: int | None = None,
        rotary_base: float | None = None,
    ) -> None:
        super().__init__()
        if d_model % num_heads:
            raise UsageError(f"d_model {d_model} must be a multiple of num_heads {num_heads}")
        groups = num_kv_heads or num_heads
        if num_heads % groups:
            raise UsageError(f"num_heads {num_heads} must be a multiple of num_kv_heads {groups}")
        self.num_heads, self.num_kv_heads, self.rotary_base = num_heads, groups, rotary_base
        self.dropout = dropout
        self.seen: list[Tensor] | None = None  # see `watched`
        # The usual one is what the fused kernel computes.
        usual = similarity == "scaled-dot"
        self.similarity = (
            None if usual else build_similarity(similarity, num_heads=num_heads, width=d_model // num_heads)
        )
        self.query = nn.Linear(d_model, d_model, bias=bias)
        width = d_model // num_heads * groups
        self.key = nn.Linear(context_dim or d_model, width, bias=bias)
        self.value = nn.Linear(context_dim or d_model, width, bias=bias)
        self.output = nn.Linear(d_model, d_model, bias=output_bias)
        if bias and similarity != "kernel":
            # It adds the same to all of a query's scores, which softmax takes away again: its gradient is zero but for
            # rounding, and Adam would blow that up to full steps. Kept for the field's weights, never trained.
            nn.init.zeros_(self.key.bias)
            self.key.bias.requires_grad_(False)

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        is_causal: bool = False,
        keep: Tensor | None = None,
        positions: Tensor | None = None,
        memory: Memory | None = None,
        visible: Tensor | None = None,
    ) -> Tensor:
        """(B, T, D) to the same. `visible` (T, S) is False where a query may not look."""
        source = fanned(x if context is None else context)  # keys and values read it, and perhaps queries
        query = self._split(self.query(source if context is None else x), self.num_heads)
        key, value = self._keys(source, positions, memory)
        if self.rotary_base is not None:
            assert positions is not None
            query = rotate(query, positions, self.rotary_base)
        # What is appended to a memory sees all of it.
        is_causal = is_causal and query.shape[2] == key.shape[2]
        mask = attention_mask(query.shape[2], key.shape[2], is_causal, keep)
        if visible is not None:
            mask = visible if mask is None else visible & mask
        heads = self._heads(query, *self._for_each_head(key, value), is_causal, mask)
        mixed: Tensor = self.output(heads.transpose(1, 2).flatten(2))  # (B, N, T, K) -> (B, T, N * K) -> (B, T, D)
        return mixed

    def _keys(self, source: Tensor, positions: Tensor | None, memory: Memory | None) -> tuple[Tensor, Tensor]:
        """Keys and values of what there is to see, (B, G, S, K)."""
        if memory is not None and memory.fixed and memory.key is not None and memory.value is not None:
            return memory.key, memory.value
        key, value = (self._split(part(source), self.num_kv_heads) for part in (self.key, self.value))
        if self.rotary_base is not None:
            assert positions is not None
            key = rotate(key, positions, self.rotary_base)
        return (key, value) if memory is None else memory.append(key, value)

    def _for_each_head(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        shared = self.num_heads // self.num_kv_heads
        if shared == 1:
            return key, value
        return key.repeat_interleave(shared, dim=1), value.repeat_interleave(shared, dim=1)

    def _heads(self, query: Tensor, key: Tensor, value: Tensor, is_causal: bool, mask: Tensor | None) -> Tensor:
        """The values that each query is given, (B, N, T, K)."""
        if self.similarity is not None or self.seen is not None:
            weights = self._weights(query, key, is_causal, mask)
            if self.seen is not None:
                self.seen.append(weights)
            return F.dropout(weights, self.dropout, self.training) @ value
        dropout = self.dropout if self.training else 0.0
        # Without padding the kernel makes the causal mask itself.
        return _attended(query, key, value, mask, dropout, is_causal and mask is None)

    def _weights(self, query: Tensor, key: Tensor, is_causal: bool, mask: Tensor | None) -> Tensor:
        """How much of each key's value each query is given, (B, N, T, S)."""
        logits = (self.similarity or ScaledDot()).logits(query, key)
        if mask is None and is_causal:
            mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
        return (logits if mask is None else logits.masked_fill(~mask, -torch.inf)).softmax(-1)

    def _split(self, x: Tensor, num_heads: int) -> Tensor:
        return x.view(*x.shape[:2], num_heads, -1).transpose(1, 2)  # (B, T, N * K) -> (B, N, T, K)


def _attended(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, is_causal: bool
) -> Tensor:
    """By torch's fused kernel; of CPUs in float32 under autocast too: bfloat16 takes its backward up to six times as
    long there (torch 2.13).
    """
    kernel = functools.partial(F.scaled_dot_product_attention, attn_mask=mask, dropout_p=dropout, is_causal=is_causal)
    if query.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return kernel(query, key, value)
    with torch.autocast("cpu", enabled=False):
        return kernel(query.float(), key.float(), value.float()).to(value.dtype)


@contextmanager
def watched(module: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """By name of each attention within: the weights (B, N, T, S) of its calls meanwhile, in their order."""
    within = {name: part for name, part in module.named_modules() if isinstance(part, MultiHeadAttention)}
    seen: dict[str, list[Tensor]] = {name: [] for name in within}
    for name, part in within.items():
        part.seen = seen[name]
    try:
        yield seen
    finally:
        for part in within.values():
            part.seen = None


def rollout(layers: list[Tensor]) -> Tensor:
    """How much of each token's input reaches each token of the last layer, (B, T, T), of every layer's self-attention
    (B, N, T, T): heads averaged, half of each layer for what passes it by (Abnar and Zuidema 2020, section 3).
    """
    passed = torch.eye(layers[0].shape[-1], device=layers[0].device)
    reached = passed
    for weights in layers:
        reached = (weights.mean(1) + passed) / 2 @ reached
    return reached


def attention_mask(num_queries: int, num_keys: int, is_causal: bool, keep: Tensor | None) -> Tensor | None:
    """What each query may see, for padded keys: (B, 1, T or 1, S), True = see. None when nothing is padded."""
    if keep is None:
        return None
    padded = keep[:, None, None, :]
    if not is_causal:
        return padded
    visible = padded & torch.ones(num_queries, num_keys, dtype=torch.bool, device=keep.device).tril()
    # Padding before a text sees itself: of a query that sees nothing no number could come.
    itself = torch.eye(num_queries, num_keys, dtype=torch.bool, device=keep.device)
    return visible | (itself & ~visible.any(-1, keepdim=True))
