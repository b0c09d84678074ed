"""VGG with 16 layers of weights.

B batch, C channels, H width of the hidden layers.
"""

from __future__ import annotations

from torch import Tensor, nn

from dlsvc.errors import UsageError
from dlsvc.registry import register_model

# Configuration D of the paper's table 1: in each stage, the width as a multiple of the first one's, and how many
# convolutions. Every stage ends with a pooling that halves the side.
_STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))
_REDUCTION = 2 ** len(_STAGES)


@register_model(
    "vgg16",
    task="classification",
    tiny={"image_size": 32, "in_channels": 1, "num_classes": 3, "base_channels": 4, "hidden_dim": 16, "dropout": 0.0},
)
class VGG16(nn.Module):
    """Very deep convolutional networks (Simonyan and Zisserman, 2015), configuration D: 13 convolutions of 3 x 3 and
    three dense layers. `encode` gives the last hidden layer.

    `batch_norm` puts a norm after each convolution (Ioffe and Szegedy, 2015), without which weights must begin well: as
    He et al. (2015) draw them. The hidden dense layers are written as convolutions over all that is left of the image,
    as in the paper's section 3.2; so their weights have timm's shapes.
    """

    def __init__(
        self,
        *,
        image_size: int = 224,
        in_channels: int = 3,
        num_classes: int = 1000,
        base_channels: int = 64,
        hidden_dim: int = 4096,
        dropout: float = 0.5,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        if image_size < _REDUCTION:
            raise UsageError(f"vgg16: image_size must be at least {_REDUCTION}, not {image_size}")
        self.image_size = image_size
        self.features = _features(in_channels, base_channels, batch_norm=batch_norm)
        self.dropout = nn.Dropout(dropout)
        self.fc1 = nn.Conv2d(base_channels * _STAGES[-1][0], hidden_dim, image_size // _REDUCTION)
        self.fc2 = nn.Conv2d(hidden_dim, hidden_dim, 1)
        self.head = nn.Linear(hidden_dim, num_classes)
        self.apply(_initialise)

    def encode(self, image: Tensor) -> Tensor:
        if image.shape[-2:] != (self.image_size, self.image_size):
            raise UsageError(
                f"vgg16: images are {tuple(image.shape[-2:])}, the model's image_size is {self.image_size}"
            )
        x = self.features(image)  # (B, C, 224, 224) -> (B, 512, 7, 7)
        x = self.dropout(self.fc1(x).relu())  # (B, H, 1, 1)
        vector: Tensor = self.fc2(x).relu().flatten(1)  # (B, H)
        return vector

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.dropout(self.encode(image)))  # (B, num_classes)
        return logits


def _features(in_channels: int, base_channels: int, *, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for factor, num_convolutions in _STAGES:
        for _ in range(num_convolutions):
            out_channels = factor * base_channels
            norm = [nn.BatchNorm2d(out_channels)] if batch_norm else []
            convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1)
            # A norm takes the bias away again: its gradient is rounding noise, and Adam would make full steps of it.
            # Kept for the field's weights, never trained.
            convolution.bias.requires_grad_(not batch_norm)  # type: ignore[union-attr]
            layers += [convolution, *norm, nn.ReLU()]
            in_channels = out_channels
        layers.append(nn.MaxPool2d(2))  # half the side
    return nn.Sequential(*layers)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        assert module.bias is not None
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)
