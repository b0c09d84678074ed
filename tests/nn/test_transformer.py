"""Blocks and activations."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from dlsvc.errors import UsageError
from dlsvc.nn.activation import build_activation
from dlsvc.nn.transformer import Block


def test_block_normalises_before_and_adds_after() -> None:
    torch.manual_seed(0)
    block, x = Block(d_model=8, num_heads=2), torch.randn(2, 3, 8)
    middle = x + block.attention(block.norm1(x))
    torch.testing.assert_close(block(x), middle + block.mlp(block.norm2(middle)))


def test_block_dropout_is_off_in_evaluation() -> None:
    torch.manual_seed(0)
    block, x = Block(d_model=8, num_heads=2, dropout=0.5), torch.randn(2, 3, 8)
    assert not torch.equal(block(x), block(x))
    block.eval()
    assert torch.equal(block(x), block(x))


def test_quick_gelu_is_close_to_gelu() -> None:
    x = torch.linspace(-4, 4, 81)
    found = build_activation("quick_gelu")(x)
    torch.testing.assert_close(found, x * torch.sigmoid(1.702 * x))
    assert (found - F.gelu(x)).abs().max() < 0.025


def test_unknown_activation_names_the_closest() -> None:
    with pytest.raises(UsageError, match="did you mean 'gelu'"):
        build_activation("geluu")
