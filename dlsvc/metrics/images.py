"""How near one image is to another, as super-resolution reports it: on luma, with the border left out.

B batch, C channels. Images are (B, C, H, W) in [0, 1]; results are (B,) float64.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# ITU-R BT.601 in 8 bits has black at 16 and white at 235: the channel that the literature's figures are of.
_LUMA = (65.481, 128.553, 24.966)
_BLACK = 16.0
# SSIM's, in pixels: an image must hold at least one.
WINDOW, _SIGMA = 11, 1.5
_K1, _K2 = 0.01, 0.03
# Of a peak of 1: what one level of 8 bits in one of 150,000 pixels comes to.
_LEAST_ERROR = 1e-10


def luma(image: Tensor, shave: int = 0) -> Tensor:
    """(B, 3, H, W) or (B, 1, H, W) -> (B, 1, h, w) float64 in [0, 1], without `shave` pixels at each edge. One channel
    is luma already.
    """
    whole = image.double()
    if whole.shape[1] == 3:
        weights = torch.tensor(_LUMA, dtype=torch.float64, device=image.device)
        whole = (torch.einsum("bchw,c->bhw", whole, weights)[:, None] + _BLACK) / 255
    inside: Tensor = whole[..., shave : whole.shape[-2] - shave, shave : whole.shape[-1] - shave]
    return inside


def psnr(one: Tensor, other: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, for a peak of 1. Equal images have 100 dB: one of infinitely much would be all
    that is seen of a mean.
    """
    errors = (one.double() - other.double()).square().flatten(1).mean(1)
    return -10 * errors.clamp(min=_LEAST_ERROR).log10()


def ssim(one: Tensor, other: Tensor) -> Tensor:
    """Structural similarity (Wang, Bovik, Sheikh and Simoncelli 2004, equation 13): a Gaussian window of 11 pixels and
    deviation 1.5, inside the image only; the mean over channels.
    """
    first, second = one.double(), other.double()
    means = [_blurred(image) for image in (first, second)]
    one_mean, other_mean = means
    variances = _blurred(first.square()) - one_mean.square() + _blurred(second.square()) - other_mean.square()
    covariance = _blurred(first * second) - one_mean * other_mean
    light = (2 * one_mean * other_mean + _K1**2) / (one_mean.square() + other_mean.square() + _K1**2)
    structure = (2 * covariance + _K2**2) / (variances + _K2**2)
    return (light * structure).flatten(1).mean(1)


def _blurred(image: Tensor) -> Tensor:
    """The window's weighted mean around each pixel that is far enough from the edge."""
    place = torch.arange(WINDOW, dtype=torch.float64, device=image.device) - WINDOW // 2
    weights = (-place.square() / (2 * _SIGMA**2)).exp()
    weights = weights / weights.sum()
    channels = image.shape[1]
    rows = F.conv2d(image, weights.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return F.conv2d(rows, weights.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
