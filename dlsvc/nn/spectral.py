"""Convolutions whose weight has a largest singular value of one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_EPS = 1e-12


class SpectralConv2d(nn.Conv2d):
    """A convolution by its weight over that weight's spectral norm, read as a matrix of output channels by all else
    (Miyato, Kataoka, Koyama and Yoshida 2018, algorithm 1). One step of the power iteration a training pass.

    The weight keeps its name and what is trained is undivided, so that checkpoints and strategies see an ordinary
    convolution; the iteration's vector is a buffer.
    """

    direction: Tensor  # (out_channels,), of length one

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, **options: int | bool) -> None:
        super().__init__(in_channels, out_channels, kernel_size, **options)  # type: ignore[arg-type]
        self.register_buffer("direction", F.normalize(torch.randn(out_channels), dim=0, eps=_EPS))

    def forward(self, x: Tensor) -> Tensor:
        # In float32 whatever the precision of the pass: a norm from few bits would shake all that follows.
        with torch.autocast(x.device.type, enabled=False):
            norm = self.norm()
        found: Tensor = self._conv_forward(x, self.weight / norm, self.bias)
        return found

    def norm(self) -> Tensor:
        """The weight's spectral norm, (). In training the vector goes a step first."""
        matrix = self.weight.flatten(1).float()
        with torch.no_grad():
            right = F.normalize(matrix.T @ self.direction, dim=0, eps=_EPS)
            left = F.normalize(matrix @ right, dim=0, eps=_EPS) if self.training else self.direction
            if self.training:
                self.direction.copy_(left)
        found: Tensor = left.clone() @ (matrix @ right)
        return found
