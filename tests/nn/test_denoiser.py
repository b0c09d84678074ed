"""The time's features, of even and of odd widths."""

from __future__ import annotations

import pytest
import torch

from dlsvc.nn.denoiser import time_features


@pytest.mark.parametrize("dim", [1, 8, 9])
def test_a_time_has_as_many_features_as_are_asked_for(dim: int) -> None:
    step = torch.tensor([0, 3])
    found = time_features(step, dim)
    half = dim // 2
    frequency = 10000.0 ** -(torch.arange(half) / max(1, half))
    angle = step[:, None] * frequency
    assert found.shape == (2, dim)
    torch.testing.assert_close(found[:, : 2 * half], torch.cat([angle.cos(), angle.sin()], dim=1))
    assert not found[:, 2 * half :].any()
