"""The perceptron: one linear unit a class."""

from __future__ import annotations

from torch import Tensor, nn

from dlsvc.registry import register_model


@register_model("perceptron", task="classification", tiny={"num_features": 4})
class Perceptron(nn.Module):
    """A single layer from features to classes (Rosenblatt, 1958), with the step function replaced by logits so that it
    has a gradient.

    With two classes it separates by one hyperplane like the single unit on the slide: the softmax of two logits is the
    sigmoid of their difference.
    """

    def __init__(self, *, num_features: int = 4, num_classes: int = 2) -> None:
        super().__init__()
        self.linear = nn.Linear(num_features, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(features.flatten(1))  # (B, F) or an image (B, C, H, W) -> (B, num_classes)
        return logits
