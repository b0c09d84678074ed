"""The multi-layer perceptron."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from dlsvc.nn.activation import build_activation
from dlsvc.registry import register_model


@register_model("mlp", task="classification", tiny={"in_features": 8, "hidden_dims": (16,), "num_classes": 3})
class MLP(nn.Module):
    """Fully connected layers with hidden units between input and output (Rumelhart, Hinton and Williams, 1986).

    The default sizes are the 784-300-100-10 network of LeCun et al. (1998). Images are flattened. `encode` gives the
    last hidden layer.
    """

    def __init__(
        self,
        *,
        in_features: int = 784,
        hidden_dims: tuple[int, ...] = (300, 100),
        num_classes: int = 10,
        activation: Literal["relu", "tanh", "sigmoid", "gelu"] = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = (in_features, *hidden_dims)
        pairs = zip(widths[:-1], widths[1:], strict=True)
        self.hidden = nn.ModuleList([nn.Linear(before, after) for before, after in pairs])
        self.activation = build_activation(activation)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], num_classes)

    def encode(self, features: Tensor) -> Tensor:
        x = features.flatten(1)  # (B, F)
        for layer in self.hidden:
            x = self.dropout(self.activation(layer(x)))
        return x  # (B, hidden_dims[-1])

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encode(features))  # (B, num_classes)
        return logits
