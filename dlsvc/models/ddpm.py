"""Denoising diffusion: a U-Net that is told the time, and a class where it is conditional.

B batch, C channels, E width of the time's embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.errors import UsageError
from dlsvc.nn.denoiser import DenoisingUNet, time_features
from dlsvc.registry import register_model


@register_model(
    "ddpm",
    task="denoising",
    metric="frechet_distance",
    tiny={
        "image_size": 8,
        "widths": (8, 16),
        "attention": (False, True),
        "blocks": 1,
        "head_dim": 8,
        "groups": 4,
        "num_classes": 3,
    },
)
class DDPM(nn.Module):
    """Denoising diffusion probabilistic model's network (Ho, Jain and Abbeel 2020, appendix B).

    `forward(state, step, label)` predicts, of noisy images (B, C, H, W) at training steps (B,), what the task asks for.
    With classes, label `num_classes` stands for none: guidance without a classifier needs both (Ho and Salimans 2022).
    The defaults are the paper's for CIFAR-10.
    """

    def __init__(
        self,
        *,
        image_size: int = 32,
        in_channels: int = 3,
        widths: tuple[int, ...] = (128, 256, 256, 256),
        attention: tuple[bool, ...] = (False, True, False, False),
        blocks: int = 2,
        head_dim: int = 256,
        groups: int = 32,
        dropout: float = 0.1,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        if image_size % 2 ** (len(widths) - 1):
            raise UsageError(
                f"ddpm: {len(widths)} widths halve the image {len(widths) - 1} times, so image_size must be a multiple "
                f"of {2 ** (len(widths) - 1)}, not {image_size}"
            )
        embed_dim = 4 * widths[0]
        self.shape = (in_channels, image_size, image_size)
        self.features, self.num_classes = widths[0], num_classes
        self.time1 = nn.Linear(widths[0], embed_dim)
        self.time2 = nn.Linear(embed_dim, embed_dim)
        if num_classes:
            self.label = nn.Embedding(num_classes + 1, embed_dim)
        self.unet = DenoisingUNet(
            in_channels=in_channels,
            out_channels=in_channels,
            widths=widths,
            attention=attention,
            blocks=blocks,
            embed_dim=embed_dim,
            head_dim=head_dim,
            groups=groups,
            dropout=dropout,
        )

    def forward(self, state: Tensor, step: Tensor, label: Tensor | None = None) -> Tensor:
        time = self.time2(F.silu(self.time1(time_features(step, self.features))))  # (B,) -> (B, E)
        if self.num_classes:
            label = torch.full_like(step, self.num_classes) if label is None else label
            time = time + self.label(label)
        predicted: Tensor = self.unet(state, time)
        return predicted
