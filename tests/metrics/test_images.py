"""PSNR, SSIM and luma against closed forms and the definition, window by window."""

from __future__ import annotations

import pytest
import torch
from scipy.ndimage import gaussian_filter

from dlsvc.metrics.images import luma, psnr, ssim


def _pair(channels: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    one = torch.rand(2, channels, 20, 24, generator=generator)
    return one, (one + 0.1 * torch.randn(one.shape, generator=generator)).clamp(0, 1)


def test_psnr_of_a_constant_error() -> None:
    one = torch.full((2, 3, 4, 4), 0.5)
    found = psnr(one, torch.stack([one[0] + 0.1, one[1]]))
    assert found[0].item() == pytest.approx(20.0, abs=1e-5)
    assert found[1].item() == pytest.approx(100.0)  # of equal ones, which a mean can be taken with


def test_luma_of_black_white_and_red_in_the_literatures_range() -> None:
    colours = torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, 0, 0]])[:, :, None, None].expand(-1, -1, 4, 4)
    found = luma(colours)[:, 0, 0, 0] * 255
    assert found.tolist() == pytest.approx([16, 235, 81.481], abs=1e-3)


def test_the_border_is_left_out() -> None:
    image = torch.zeros(1, 1, 8, 8)
    image[..., 0, :] = 1
    assert luma(image, shave=2).shape == (1, 1, 4, 4)
    assert luma(image, shave=1).max() == 0


def test_ssim_of_two_constants_is_the_light_term() -> None:
    one, other = torch.full((1, 1, 16, 16), 0.2), torch.full((1, 1, 16, 16), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert ssim(one, other).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_is_the_definition_with_scipys_window(channels: int) -> None:
    one, other = _pair(channels)

    def blur(image: torch.Tensor) -> torch.Tensor:
        filtered = gaussian_filter(image.double().numpy(), sigma=(0, 0, 1.5, 1.5), radius=(0, 0, 5, 5))
        return torch.from_numpy(filtered)[..., 5:-5, 5:-5]

    mean_one, mean_other = blur(one), blur(other)
    var_one, var_other = blur(one.double() ** 2) - mean_one**2, blur(other.double() ** 2) - mean_other**2
    covariance = blur(one.double() * other.double()) - mean_one * mean_other
    table = ((2 * mean_one * mean_other + 1e-4) * (2 * covariance + 9e-4)) / (
        (mean_one**2 + mean_other**2 + 1e-4) * (var_one + var_other + 9e-4)
    )
    torch.testing.assert_close(ssim(one, other), table.flatten(1).mean(1), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ssim(one, one), torch.ones(2, dtype=torch.float64))
