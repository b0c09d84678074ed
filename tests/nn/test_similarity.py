"""The five similarity functions: the course's worked example, and each against its formula."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dlsvc.errors import UsageError
from dlsvc.nn.attention import MultiHeadAttention
from dlsvc.nn.similarity import build_similarity

NAMES: tuple[Any, ...] = ("dot", "scaled-dot", "general", "additive", "kernel")

# The slide: a query of width 3, three keys, and their values of width 5.
QUERY = [0.30, 0.29, 0.33]
KEYS = [[0.55, 0.24, 0.10], [0.87, 0.17, 0.46], [0.98, 0.01, 0.61]]
VALUES = [[0.71, 0.59, 0.40, 0.70, 0.62], [0.60, 0.51, 0.39, 0.86, 0.61], [0.17, 0.58, 0.09, 0.54, 0.34]]


def test_the_slides_example_to_its_printed_digits() -> None:
    similarity = build_similarity("scaled-dot", num_heads=1, width=3)
    found = similarity(torch.tensor([[[QUERY]]]), torch.tensor([[KEYS]]))[0, 0]
    assert [f"{value:.3f}" for value in found[0].tolist()] == ["0.154", "0.267", "0.288"]
    assert f"{found.sum().item():.2f}" == "0.71"
    mixed = found @ torch.tensor(VALUES)
    expected = sum(score * np.asarray(row) for score, row in zip((0.1545, 0.2668, 0.2876), VALUES, strict=True))
    np.testing.assert_allclose(mixed[0], expected, atol=2e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_each_is_its_formula(name: Any) -> None:
    torch.manual_seed(0)
    similarity = build_similarity(name, num_heads=2, width=3)
    for parameter in similarity.parameters():
        nn.init.normal_(parameter)
    query, key = torch.randn(4, 2, 5, 3), torch.randn(4, 2, 6, 3)
    found = similarity(query, key)
    for head in range(2):
        part = {label: value[head] for label, value in similarity.named_parameters()}
        expected = _formula(name, query[1, head, 2], key[1, head, 4], part)
        torch.testing.assert_close(found[1, head, 2, 4], expected)


def _formula(name: str, q: Tensor, k: Tensor, part: dict[str, Tensor]) -> Tensor:
    """One query and one key, (K,) each."""
    if name in ("dot", "scaled-dot"):
        return q @ k / (1 if name == "dot" else 3**0.5)
    if name == "general":
        return q @ part["weight"] @ k
    if name == "additive":
        return part["query"] @ q + part["key"] @ k
    return torch.exp(-(q - k).square().sum() / (2 * 3**0.5))


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("is_padded", [False, True])
def test_attention_weighs_values_by_it(name: Any, is_causal: bool, is_padded: bool) -> None:
    torch.manual_seed(0)
    layer = MultiHeadAttention(d_model=8, num_heads=2, similarity=name).eval()
    x = torch.randn(3, 5, 8)
    keep = torch.tensor([[True] * 5, [True] * 4 + [False], [True] * 2 + [False] * 3]) if is_padded else None
    query, key, value = (layer._split(part(x), 2) for part in (layer.query, layer.key, layer.value))
    visible = torch.ones(3, 1, 5, 5, dtype=torch.bool) if keep is None else keep[:, None, None].expand(3, 1, 5, 5)
    visible = visible & torch.ones(5, 5, dtype=torch.bool).tril() if is_causal else visible
    similarity = layer.similarity or build_similarity(name, num_heads=2, width=4)
    scores = similarity(query, key)
    weights = (scores if name == "kernel" else scores.exp()) * visible
    heads = weights / weights.sum(-1, keepdim=True) @ value
    expected = layer.output(heads.transpose(1, 2).flatten(2))
    torch.testing.assert_close(layer(x, is_causal=is_causal, keep=keep), expected)


def test_the_general_one_begins_as_the_dot_product() -> None:
    query, key = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 3, 4)
    dot, general = (build_similarity(name, num_heads=2, width=4) for name in ("dot", "general"))
    torch.testing.assert_close(general(query, key), dot(query, key))


def test_a_wrong_name_is_refused() -> None:
    with pytest.raises(UsageError, match="no similarity is called 'scaled'; did you mean 'scaled-dot'"):
        build_similarity("scaled", num_heads=1, width=2)  # type: ignore[arg-type]
