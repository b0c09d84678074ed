"""Running totals against torch's, and that they are whole steps."""

from __future__ import annotations

import torch

from dlsvc.nn.totals import running_totals


def test_totals_are_sums_so_far() -> None:
    shares = torch.rand(5, 1000, generator=torch.Generator().manual_seed(0)).softmax(1)
    found = running_totals(shares)
    torch.testing.assert_close(found, shares.double().cumsum(1), rtol=0, atol=1e-12)
    assert torch.equal((found * 2**52).round(), found * 2**52)


def test_nothing_adds_nothing() -> None:
    """What a draw must never fall on keeps no width."""
    found = running_totals(torch.tensor([[0.25, 0.0, 0.75, 0.0]]))
    assert found.tolist() == [[0.25, 0.25, 1.0, 1.0]]
