"""Activations by name."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dlsvc.errors import UsageError, did_you_mean


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x): the approximation of GELU that CLIP was trained with (Hendrycks and Gimpel, 2016, section
    2).
    """

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class TanhGELU(nn.GELU):
    """GELU by a hyperbolic tangent, as GPT-2 was trained with (Hendrycks and Gimpel, 2016, section 2)."""

    def __init__(self) -> None:
        super().__init__(approximate="tanh")


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "quick_gelu": QuickGELU,
    "tanh_gelu": TanhGELU,
}


def build_activation(name: str) -> nn.Module:
    """The activation of that name. Raises UsageError naming the closest one."""
    if name not in ACTIVATIONS:
        raise UsageError(f"no activation is called {name!r}{did_you_mean(name, ACTIVATIONS)}")
    return ACTIVATIONS[name]()
