"""Our structural similarity against scikit-image's."""

from __future__ import annotations

import pytest
import torch

from dlsvc.metrics.images import ssim

skimage = pytest.importorskip("skimage.metrics", reason="scikit-image is the reference, and no dependency of ours")


def test_ssim_is_scikit_images() -> None:
    generator = torch.Generator().manual_seed(0)
    one = torch.rand(3, 1, 40, 32, generator=generator, dtype=torch.float64)
    other = (one + 0.2 * torch.randn(one.shape, generator=generator, dtype=torch.float64)).clamp(0, 1)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    pairs = zip(one[:, 0].numpy(), other[:, 0].numpy(), strict=True)
    expected = [skimage.structural_similarity(*pair, **options) for pair in pairs]
    assert ssim(one, other).tolist() == pytest.approx(expected, abs=1e-10)
