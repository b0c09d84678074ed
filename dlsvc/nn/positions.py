"""Where a token stands: sinusoids that are added, and rotations of queries and keys.

B batch, T tokens, D width, N heads of width K.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sinusoids(length: int, d_model: int, base: float = 10000.0) -> Tensor:
    """(T, D): sin(t / base^(2i / D)) in even places, the cosine in odd ones (Vaswani et al. 2017, section 3.5)."""
    angles = _angles(torch.arange(length), d_model, base)  # (T, D / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :d_model].float()


def rotate(x: Tensor, positions: Tensor, base: float) -> Tensor:
    """(B, N, T, K), each pair (x_i, x_{i + K/2}) turned by the angle t / base^(2i / K) (Su et al. 2021, equation 34, in
    the halves' order of Llama's published weights), for positions (B, T).
    """
    angles = _angles(positions, x.shape[-1], base)[:, None]  # (B, 1, T, K / 2)
    cosine, sine = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


def _angles(positions: Tensor, width: int, base: float) -> Tensor:
    """(..., W / 2) float32"""
    powers = torch.arange(0, width, 2, device=positions.device, dtype=torch.float32) / width
    return positions[..., None].float() * (1.0 / base**powers)
