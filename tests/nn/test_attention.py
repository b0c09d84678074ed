"""Attention against its formula written out in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from dlsvc.errors import UsageError
from dlsvc.nn.attention import MultiHeadAttention


def _build(**options: int) -> MultiHeadAttention:
    torch.manual_seed(0)
    return MultiHeadAttention(d_model=12, num_heads=3, **options).eval()


def _reference(layer: MultiHeadAttention, x: Tensor, context: Tensor, visible: np.ndarray) -> np.ndarray:
    """softmax(Q K^T / sqrt(K)) V, a head at a time; visible (B, T, S)."""

    def project(part: torch.nn.Linear, value: Tensor) -> np.ndarray:
        return value.numpy() @ part.weight.detach().numpy().T + part.bias.detach().numpy()

    query, key, value = project(layer.query, x), project(layer.key, context), project(layer.value, context)
    heads = []
    for head in range(3):
        part = slice(4 * head, 4 * head + 4)
        scores = query[..., part] @ key[..., part].transpose(0, 2, 1) / np.sqrt(4)
        weights = np.exp(scores - scores.max(-1, keepdims=True)) * visible
        heads.append(weights / weights.sum(-1, keepdims=True) @ value[..., part])
    mixed = np.concatenate(heads, -1)
    return mixed @ layer.output.weight.detach().numpy().T + layer.output.bias.detach().numpy()


@torch.no_grad()
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("is_padded", [False, True])
def test_self_attention_is_the_formula(is_causal: bool, is_padded: bool) -> None:
    layer, x = _build(), torch.randn(2, 5, 12)
    keep = torch.tensor([[True] * 5, [True] * 3 + [False] * 2]) if is_padded else None
    visible = np.ones((2, 5, 5), bool) if keep is None else np.repeat(keep.numpy()[:, None], 5, 1)
    if is_causal:
        visible = visible & np.tril(np.ones((5, 5), bool))
    found = layer(x, is_causal=is_causal, keep=keep).numpy()
    np.testing.assert_allclose(found, _reference(layer, x, x, visible), atol=1e-6)


@torch.no_grad()
def test_cross_attention_is_the_formula() -> None:
    layer, x, context = _build(context_dim=7), torch.randn(2, 5, 12), torch.randn(2, 3, 7)
    keep = torch.tensor([[True, True, False], [True, False, False]])
    visible = np.repeat(keep.numpy()[:, None], 5, 1)
    np.testing.assert_allclose(layer(x, context, keep=keep).numpy(), _reference(layer, x, context, visible), atol=1e-6)


@torch.no_grad()
def test_causal_output_ignores_what_comes_after() -> None:
    layer, x = _build(), torch.randn(1, 6, 12)
    changed = x.clone()
    changed[:, 4:] = 9.0
    torch.testing.assert_close(layer(x, is_causal=True)[:, :4], layer(changed, is_causal=True)[:, :4])
    assert not torch.allclose(layer(x)[:, :4], layer(changed)[:, :4])


@torch.no_grad()
def test_padding_never_reaches_a_kept_position() -> None:
    layer, x = _build(), torch.randn(1, 6, 12)
    keep = torch.tensor([[True] * 4 + [False] * 2])
    torch.testing.assert_close(layer(x, keep=keep)[:, :4], layer(x[:, :4]))


def test_dropout_follows_the_global_seed() -> None:
    layer, x = MultiHeadAttention(d_model=12, num_heads=3, dropout=0.5).train(), torch.randn(1, 6, 12)

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return layer(x)

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(UsageError, match="12 must be a multiple of num_heads 5"):
        MultiHeadAttention(d_model=12, num_heads=5)
