"""Spectral normalisation against torch's own, and against the singular values."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from dlsvc.nn.spectral import SpectralConv2d


def _pair() -> tuple[SpectralConv2d, nn.Conv2d]:
    """Ours, and torch's with the same weights, each when its iteration has arrived: torch's is half a step ahead."""
    torch.manual_seed(0)
    ours, theirs = SpectralConv2d(3, 5, 4, stride=2, padding=1), nn.Conv2d(3, 5, 4, stride=2, padding=1)
    theirs.load_state_dict({name: ours.state_dict()[name] for name in ("weight", "bias")})
    parametrizations.spectral_norm(theirs)
    for _ in range(200):
        ours(torch.zeros(1, 3, 8, 8))
        theirs(torch.zeros(1, 3, 8, 8))
    return ours, theirs


def test_outputs_and_gradients_are_torchs() -> None:
    ours, theirs = _pair()
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-6)
    ours(x).square().sum().backward()
    theirs(x).square().sum().backward()
    expected = theirs.parametrizations["weight"].original.grad  # type: ignore[index]
    torch.testing.assert_close(ours.weight.grad, expected, rtol=1e-4, atol=1e-5)


def test_the_largest_singular_value_becomes_one() -> None:
    ours, _ = _pair()
    norm = torch.linalg.matrix_norm(ours.weight.flatten(1), 2)
    one = ours.eval()(torch.ones(1, 3, 8, 8)) - ours.bias[:, None, None]
    plain = nn.functional.conv2d(torch.ones(1, 3, 8, 8), ours.weight / norm, stride=2, padding=1)
    torch.testing.assert_close(one, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_the_norm_is_float32_under_autocast(training: bool) -> None:
    ours, _ = _pair()
    ours.train(training)
    seen: list[torch.Tensor] = []
    norm = ours.norm

    def watched() -> torch.Tensor:
        seen.append(norm())
        return seen[-1]

    ours.norm = watched  # type: ignore[method-assign]
    with torch.autocast("cpu", torch.bfloat16):
        ours(torch.ones(1, 3, 8, 8))
    assert seen[0].dtype == ours.direction.dtype == torch.float32
    torch.testing.assert_close(seen[0], torch.linalg.matrix_norm(ours.weight.flatten(1), 2), rtol=1e-5, atol=1e-6)


def test_answering_moves_nothing() -> None:
    ours, _ = _pair()
    before = ours.direction.clone()
    first, again = (ours.eval()(torch.ones(1, 3, 8, 8)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(ours.direction, before)
