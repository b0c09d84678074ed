"""LeNet-5 as in the course: max pooling, ReLU and cross-entropy in place of the original's subsampling, tanh and radial
basis functions.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.errors import UsageError
from dlsvc.registry import register_model

_MIN_IMAGE_SIZE = 12


@register_model("lenet5", task="classification", tiny={"image_size": 16, "num_classes": 4, "hidden_dims": (24, 16)})
class LeNet5(nn.Module):
    """Two convolutions and three fully connected layers (LeCun, Bottou, Bengio and Haffner, 1998). `encode` gives the
    last hidden layer.

    Images smaller than the paper's 32 x 32 are padded by 2 in the first convolution, which makes 28 x 28 equal to the
    paper from there on.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        image_size: int = 32,
        num_classes: int = 10,
        hidden_dims: tuple[int, int] = (120, 84),
    ) -> None:
        super().__init__()
        if image_size < _MIN_IMAGE_SIZE:
            raise UsageError(f"lenet5: image_size must be at least {_MIN_IMAGE_SIZE}, not {image_size}")
        padding = 0 if image_size >= 32 else 2
        side = ((image_size + 2 * padding - 4) // 2 - 4) // 2
        self.conv1 = nn.Conv2d(in_channels, 6, 5, padding=padding)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * side * side, hidden_dims[0])
        self.fc2 = nn.Linear(hidden_dims[0], hidden_dims[1])
        self.head = nn.Linear(hidden_dims[1], num_classes)

    def encode(self, image: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(image)), 2)  # (B, C, 32, 32) -> (B, 6, 14, 14)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)  # (B, 16, 5, 5)
        return F.relu(self.fc2(F.relu(self.fc1(x.flatten(1)))))  # (B, 400) -> (B, 120) -> (B, 84)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encode(image))  # (B, num_classes)
        return logits
