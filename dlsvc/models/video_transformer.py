"""A transformer on films, with attention over time and over space divided.

B batch, T frames, P patches a frame, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dlsvc.errors import UsageError
from dlsvc.nn.attention import MultiHeadAttention
from dlsvc.nn.transformer import FeedForward
from dlsvc.registry import register_model

_INIT_STD = 0.02


class DividedBlock(nn.Module):
    """Attention between the frames of a patch, then between the patches of a frame, then a feed-forward layer."""

    def __init__(self, *, d_model: int, num_heads: int, mlp_ratio: float, dropout: float, norm_eps: float) -> None:
        super().__init__()
        self.time_norm = nn.LayerNorm(d_model, eps=norm_eps)
        self.time_attention = MultiHeadAttention(d_model=d_model, num_heads=num_heads, dropout=dropout)
        self.time_output = nn.Linear(d_model, d_model)
        self.norm1 = nn.LayerNorm(d_model, eps=norm_eps)
        self.attention = MultiHeadAttention(d_model=d_model, num_heads=num_heads, dropout=dropout)
        self.norm2 = nn.LayerNorm(d_model, eps=norm_eps)
        self.mlp = FeedForward(d_model=d_model, hidden_dim=round(d_model * mlp_ratio), dropout=dropout)

    def forward(self, token: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """The class token (B, D) and the patches (B, T, P, D), one layer on."""
        batch, frames, count, _ = patches.shape
        through = self.time_norm(patches).transpose(1, 2).flatten(0, 1)  # (B * P, T, D)
        changed = self.time_output(self.time_attention(through)).unflatten(0, (batch, count)).transpose(1, 2)
        patches = patches + changed
        # Each frame sees the class token; what it makes of it is averaged.
        tokens = token[:, None, None].expand(-1, frames, -1, -1)  # (B, T, 1, D)
        within = self.norm1(torch.cat([tokens, patches], dim=2)).flatten(0, 1)  # (B * T, 1 + P, D)
        seen = self.attention(within).unflatten(0, (batch, frames))
        token, patches = token + seen[:, :, 0].mean(1), patches + seen[:, :, 1:]
        whole = torch.cat([token[:, None], patches.flatten(1, 2)], dim=1)  # (B, 1 + T * P, D)
        whole = whole + self.mlp(self.norm2(whole))
        return whole[:, 0], whole[:, 1:].unflatten(1, (frames, count))


@register_model(
    "video_transformer",
    task="classification",
    tiny={
        "num_frames": 4,
        "image_size": 16,
        "patch_size": 8,
        "d_model": 16,
        "num_layers": 2,
        "num_heads": 2,
        "num_classes": 3,
    },
)
class VideoTransformer(nn.Module):
    """TimeSformer (Bertasius, Wang and Torresani, 2021), its base size by default: divided space-time attention.
    Positions of patches and of frames are learned. `encode` gives the class token after the last norm.
    """

    def __init__(
        self,
        *,
        num_frames: int = 8,
        image_size: int = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        d_model: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        num_classes: int = 400,
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        if image_size % patch_size:
            raise UsageError(
                f"video_transformer: image_size {image_size} must be a multiple of patch_size {patch_size}"
            )
        self.shape = (num_frames, image_size, image_size)
        self.patches = nn.Conv2d(in_channels, d_model, patch_size, stride=patch_size)
        self.class_token = nn.Parameter(torch.zeros(d_model))
        self.positions = nn.Parameter(torch.zeros(1 + (image_size // patch_size) ** 2, d_model))
        self.times = nn.Parameter(torch.zeros(num_frames, d_model))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            DividedBlock(d_model=d_model, num_heads=num_heads, mlp_ratio=mlp_ratio, dropout=dropout, norm_eps=norm_eps)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(d_model, eps=norm_eps)
        self.head = nn.Linear(d_model, num_classes)
        self._initialise()

    def _initialise(self) -> None:
        """Truncated normal weights and zero biases, as the vision transformer that it grows from. The paper starts
        attention over time at zero to keep that one's answers; from scratch it would only begin later.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=_INIT_STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for parameter in (self.class_token, self.positions, self.times):
            nn.init.trunc_normal_(parameter, std=_INIT_STD)

    def encode(self, video: Tensor) -> Tensor:
        """The film as one vector, (B, D)."""
        if tuple(video.shape[-3:]) != self.shape:
            found, own = ("{} frames of {} x {}".format(*shape) for shape in (video.shape[-3:], self.shape))
            raise UsageError(f"video_transformer: films have {found}, the model takes {own}")
        images = video.transpose(1, 2).flatten(0, 1)  # (B, C, T, H, W) -> (B * T, C, H, W)
        patches = self.patches(images).flatten(2).transpose(1, 2)  # (B * T, P, D)
        patches = self.dropout(patches + self.positions[1:]).unflatten(0, (len(video), -1))  # (B, T, P, D)
        patches = self.dropout(patches + self.times[:, None])
        token = self.dropout((self.class_token + self.positions[0]).expand(len(video), -1))  # (B, D)
        for block in self.blocks:
            token, patches = block(token, patches)
        vector: Tensor = self.norm(token)
        return vector

    def forward(self, video: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encode(video))  # (B, D) -> (B, num_classes)
        return logits
