"""A convolutional network in three dimensions, for films.

B batch, C channels, T frames, H x W pixels.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.errors import UsageError
from dlsvc.registry import register_model


class _MaxPool(nn.Module):
    """The maximum over windows of `frames` x 2 x 2: within frames, then over them, since a GPU's kernel for all three
    at once adds up gradients in an order that chance decides.
    """

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, x: Tensor) -> Tensor:
        channels, size = x.shape[1], x.shape[2]
        x = F.max_pool2d(x.flatten(1, 2), 2)  # (B, C * T, H / 2, W / 2)
        x = x.unflatten(1, (channels, size))
        if self.frames == 1:
            return x
        found: Tensor = F.max_pool2d(x.flatten(3), (self.frames, 1))  # (B, C, T / frames, H W / 4)
        return found.unflatten(3, tuple(x.shape[3:]))  # type: ignore[no-any-return]


@register_model(
    "video_cnn",
    task="classification",
    tiny={"num_frames": 4, "image_size": 16, "num_classes": 3, "channels": (4, 8), "depths": (1, 2), "embed_dim": 16},
)
class VideoCNN(nn.Module):
    """C3D (Tran et al., 2015): stages of 3 x 3 x 3 convolutions, each followed by a maximum over 2 x 2 x 2, the first
    one's over 2 x 2 within a frame, and two dense layers, the first of which `encode` gives. Each convolution has a
    batch norm, and the last map is averaged before the dense layers, which the paper had not yet.
    """

    def __init__(
        self,
        *,
        num_frames: int = 16,
        image_size: int = 112,
        in_channels: int = 3,
        channels: tuple[int, ...] = (64, 128, 256, 512, 512),
        depths: tuple[int, ...] = (1, 1, 2, 2, 2),
        embed_dim: int = 4096,
        dropout: float = 0.5,
        num_classes: int = 487,
    ) -> None:
        super().__init__()
        if len(channels) != len(depths) or not channels:
            raise UsageError(f"video_cnn: {len(channels)} channels for {len(depths)} depths; give one of each a stage")
        if image_size < 2 ** len(channels) or num_frames < 2 ** (len(channels) - 1):
            raise UsageError(
                f"video_cnn: {num_frames} frames of {image_size} pixels can't be halved in {len(channels)} stages"
            )
        self.shape = (num_frames, image_size, image_size)
        self.stages = nn.ModuleList()
        width = in_channels
        for stage, (size, depth) in enumerate(zip(channels, depths, strict=True)):
            layers: list[nn.Module] = []
            for _ in range(depth):
                layers += [nn.Conv3d(width, size, 3, padding=1, bias=False), nn.BatchNorm3d(size), nn.ReLU()]
                width = size
            self.stages.append(nn.Sequential(*layers, _MaxPool(2 if stage else 1)))
        self.embed = nn.Linear(width, embed_dim)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(embed_dim, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def encode(self, video: Tensor) -> Tensor:
        """The film as one vector, (B, E)."""
        if tuple(video.shape[-3:]) != self.shape:
            found, own = ("{} frames of {} x {}".format(*shape) for shape in (video.shape[-3:], self.shape))
            raise UsageError(f"video_cnn: films have {found}, the model takes {own}")
        x = video  # (B, C, T, H, W)
        for stage in self.stages:
            x = stage(x)
        return F.relu(self.embed(self.dropout(x.mean((2, 3, 4)))))  # (B, C') -> (B, E)

    def forward(self, video: Tensor) -> Tensor:
        logits: Tensor = self.head(self.dropout(self.encode(video)))  # (B, num_classes)
        return logits
