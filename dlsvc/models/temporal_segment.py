"""A temporal segment network: one image network looks at a frame of each part of a film.

B batch, C channels, T frames, K segments, D width of the image network.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from dlsvc.errors import UsageError
from dlsvc.models.resnet34 import ResNet34
from dlsvc.registry import register_model


@register_model(
    "temporal_segment",
    task="classification",
    tiny={
        "num_frames": 4,
        "num_segments": 2,
        "image_size": 16,
        "num_classes": 3,
        "layers": (1, 1),
        "base_channels": 4,
        "stem": "small",
    },
)
class TemporalSegment(nn.Module):
    """Wang et al. (2016): the film in `num_segments` equal parts, the middle frame of each through one residual
    network, and the mean of their scores (their segmental consensus). With `differences` the network sees what changed
    since the frame before beside each frame, their RGB difference. `encode` gives the mean of the frames' vectors.
    """

    def __init__(
        self,
        *,
        num_frames: int = 9,
        num_segments: int = 3,
        image_size: int = 224,
        in_channels: int = 3,
        num_classes: int = 101,
        layers: tuple[int, ...] = (3, 4, 6, 3),
        base_channels: int = 64,
        stem: Literal["paper", "small"] = "paper",
        differences: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not 1 <= num_segments <= num_frames:
            raise UsageError(f"temporal_segment: {num_frames} frames don't make {num_segments} segments")
        self.num_frames, self.differences = num_frames, differences
        # The middle of each part.
        self.places = [num_frames * (2 * part + 1) // (2 * num_segments) for part in range(num_segments)]
        self.network = ResNet34(
            image_size=image_size,
            in_channels=in_channels * (2 if differences else 1),
            num_classes=num_classes,
            layers=tuple(layers),
            base_channels=base_channels,
            stem=stem,
        )
        self.dropout = nn.Dropout(dropout)

    def encode(self, video: Tensor) -> Tensor:
        """The film as one vector, (B, D)."""
        if video.shape[2] != self.num_frames:
            raise UsageError(
                f"temporal_segment: films have {video.shape[2]} frames, the model's num_frames is {self.num_frames}"
            )
        frames = video[:, :, self.places]  # (B, C, K, H, W)
        if self.differences:
            before = video[:, :, [max(0, place - 1) for place in self.places]]
            frames = torch.cat([frames, frames - before], dim=1)  # (B, 2 C, K, H, W)
        images = frames.transpose(1, 2).flatten(0, 1)  # (B * K, C, H, W)
        vectors: Tensor = self.network.encode(images).unflatten(0, (len(video), -1))  # (B, K, D)
        return vectors.mean(1)

    def forward(self, video: Tensor) -> Tensor:
        # The head is linear: the scores' mean is the score of the mean.
        logits: Tensor = self.network.head(self.dropout(self.encode(video)))
        return logits
