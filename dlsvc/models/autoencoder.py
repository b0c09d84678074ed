"""Autoencoder of dense or convolutional layers, with codes of numbers or of bits.

B batch, C channels, Z code size.
"""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn

from dlsvc.errors import UsageError
from dlsvc.registry import register_model

_LAYERS = ("dense", "conv")
_CODES = ("real", "binary")


@register_model(
    "autoencoder",
    task="autoencoding",
    tiny={"image_size": 8, "layers": "conv", "widths": (8, 16), "code_dim": 6},
)
class Autoencoder(nn.Module):
    """An encoder to a small code and its mirror image back (Hinton and Salakhutdinov 2006, trained in one go).

    `widths` are the sizes of the hidden layers when `layers` is dense, the channels of convolutions of stride 2 when it
    is conv. A binary code is a sigmoid rounded to 0 and 1; the gradient passes the rounding as if it weren't there
    (Bengio, Leonard and Courville 2013, the straight-through estimator), so what is read is what is rebuilt from.
    `reconstruction` is the logits of the pixels; `encode` gives the code.
    """

    def __init__(
        self,
        *,
        image_size: int = 28,
        in_channels: int = 1,
        layers: Literal["dense", "conv"] = "dense",
        widths: tuple[int, ...] = (256, 64),
        code_dim: int = 16,
        code: Literal["real", "binary"] = "real",
    ) -> None:
        super().__init__()
        if layers not in _LAYERS or code not in _CODES:
            raise UsageError(f"autoencoder: layers is one of {_LAYERS}, code one of {_CODES}")
        if layers == "conv" and image_size % 2 ** len(widths):
            raise UsageError(
                f"autoencoder: {len(widths)} convolutions halve the image {len(widths)} times, so image_size must be a "
                f"multiple of {2 ** len(widths)}, not {image_size}"
            )
        self.is_binary = code == "binary"
        shape = (in_channels, image_size, image_size)
        build = _dense if layers == "dense" else _conv
        self.encoder, self.decoder = build(shape, widths, code_dim)

    def encode(self, image: Tensor) -> Tensor:
        code: Tensor = self.encoder(image)  # (B, C, H, W) -> (B, Z)
        if not self.is_binary:
            return code
        soft = code.sigmoid()
        return soft + (soft.round() - soft).detach()

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        code = self.encode(image)
        return {"reconstruction": self.decoder(code), "code": code}  # (B, C, H, W), (B, Z)


def _dense(shape: tuple[int, int, int], widths: tuple[int, ...], code_dim: int) -> tuple[nn.Sequential, nn.Sequential]:
    sizes = (math.prod(shape), *widths, code_dim)
    down = [nn.Flatten(), *_linears(sizes)]
    up = [*_linears(sizes[::-1]), nn.Unflatten(1, shape)]
    return nn.Sequential(*down), nn.Sequential(*up)


def _linears(sizes: tuple[int, ...]) -> list[nn.Module]:
    """Linear layers with ReLU between them."""
    found: list[nn.Module] = []
    for before, after in zip(sizes, sizes[1:], strict=False):
        found += [nn.Linear(before, after), nn.ReLU()]
    return found[:-1]


def _conv(shape: tuple[int, int, int], widths: tuple[int, ...], code_dim: int) -> tuple[nn.Sequential, nn.Sequential]:
    channels, side = (shape[0], *widths), shape[1] // 2 ** len(widths)
    down: list[nn.Module] = []
    for before, after in zip(channels, channels[1:], strict=False):
        down += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]  # side -> side / 2
    up: list[nn.Module] = []
    for before, after in zip(channels[::-1], channels[-2::-1], strict=False):
        up += [nn.ReLU(), nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)]  # side -> 2 side
    smallest = (widths[-1], side, side)
    encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(math.prod(smallest), code_dim))
    return encoder, nn.Sequential(nn.Linear(code_dim, math.prod(smallest)), nn.Unflatten(1, smallest), *up)
