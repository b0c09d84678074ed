"""Samples as points, so placed that those of one kind lie together.

B batch, F features, E embedding width.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from dlsvc.errors import UsageError
from dlsvc.nn.activation import build_activation
from dlsvc.registry import register_model


@register_model("similarity", task="embedding", tiny={"in_features": 8, "embed_dim": 4, "hidden_dims": (16,)})
class Similarity(nn.Module):
    """A linear map, as in neighbourhood components analysis (Goldberger, Roweis, Hinton and Salakhutdinov, 2004), or
    with `hidden_dims` a network whose last layer it is. Its Euclidean distances are the learned ones; images are
    flattened.
    """

    def __init__(
        self,
        *,
        in_features: int = 4,
        embed_dim: int = 2,
        hidden_dims: tuple[int, ...] = (),
        activation: Literal["relu", "tanh", "sigmoid", "gelu"] = "relu",
    ) -> None:
        super().__init__()
        if min((in_features, embed_dim, *hidden_dims)) < 1:
            raise UsageError("similarity: every width must be at least 1")
        widths = (in_features, *hidden_dims)
        layers: list[nn.Module] = []
        for width, following in zip(widths, hidden_dims, strict=False):
            layers += [nn.Linear(width, following), build_activation(activation)]
        # Distances don't change with an offset, so the map has none.
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], embed_dim, bias=False))

    def encode(self, features: Tensor) -> Tensor:
        vectors: Tensor = self.layers(features.flatten(1))  # (B, F) -> (B, E)
        return vectors

    def forward(self, features: Tensor) -> Tensor:
        return self.encode(features)
