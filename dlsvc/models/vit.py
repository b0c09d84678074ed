"""Vision transformer.

B batch, C channels, P patches along a side, T = 1 + P * P tokens, D width.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from dlsvc.errors import UsageError
from dlsvc.nn.transformer import Block
from dlsvc.registry import register_model

_INIT_STD = 0.02


@register_model(
    "vit",
    task="classification",
    tiny={"image_size": 16, "patch_size": 8, "d_model": 16, "num_layers": 2, "num_heads": 2, "num_classes": 3},
)
class ViT(nn.Module):
    """An image is worth 16 x 16 words (Dosovitskiy et al., 2021), ViT-B/16 by default.

    A class token and learned positions, norm before each sub-layer, GELU, as in timm and transformers. (transformers
    sets `norm_eps` 1e-12.) With `num_classes=0` it is headless: forward gives the class token after the last norm, as
    `encode` does. `activation`, `patch_bias` and `embedding_norm` make it CLIP's image tower. `similarity` is how its
    attention compares queries with keys. In training each image keeps a random share, 1 - `patch_dropout`, of its
    patches (Li et al. 2023, "Scaling language-image pre-training via masking", section 3).
    """

    def __init__(
        self,
        *,
        image_size: int = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        d_model: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        num_classes: int = 1000,
        norm_eps: float = 1e-6,
        activation: Literal["gelu", "quick_gelu"] = "gelu",
        patch_bias: bool = True,
        embedding_norm: bool = False,
        similarity: Literal["dot", "scaled-dot", "general", "additive", "kernel"] = "scaled-dot",
        patch_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= patch_dropout < 1:
            raise UsageError(f"vit: patch_dropout must be in [0, 1), not {patch_dropout}")
        if image_size % patch_size:
            raise UsageError(f"vit: image_size {image_size} must be a multiple of patch_size {patch_size}")
        self.image_size, self.patch_dropout = image_size, patch_dropout
        self.patches = nn.Conv2d(in_channels, d_model, patch_size, stride=patch_size, bias=patch_bias)
        self.class_token = nn.Parameter(torch.zeros(d_model))
        self.positions = nn.Parameter(torch.zeros(1 + (image_size // patch_size) ** 2, d_model))
        self.embedding_norm = nn.LayerNorm(d_model, eps=norm_eps) if embedding_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(
                d_model=d_model,
                num_heads=num_heads,
                mlp_ratio=mlp_ratio,
                activation=activation,
                dropout=dropout,
                norm_eps=norm_eps,
                similarity=similarity,
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(d_model, eps=norm_eps)
        self.head = nn.Linear(d_model, num_classes) if num_classes else nn.Identity()
        self._initialise()

    def _initialise(self) -> None:
        """Truncated normal weights and zero biases, as in the reference code."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=_INIT_STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.class_token, std=_INIT_STD)
        nn.init.trunc_normal_(self.positions, std=_INIT_STD)

    def states(self, image: Tensor, num_blocks: int | None = None) -> Tensor:
        """What each token has come to after so many blocks, (B, T, D); by default after all, not yet normalised."""
        if image.shape[-2:] != (self.image_size, self.image_size):
            raise UsageError(f"vit: images are {tuple(image.shape[-2:])}, the model's image_size is {self.image_size}")
        x: Tensor = self.patches(image).flatten(2).transpose(1, 2)  # (B, C, H, W) -> (B, D, P, P) -> (B, P * P, D)
        x = torch.cat([self.class_token.expand(len(x), 1, -1), x], dim=1) + self.positions  # (B, T, D)
        x = self.dropout(self.embedding_norm(self._kept(x)))
        for block in self.blocks[:num_blocks]:
            x = block(x)
        return x

    def _kept(self, x: Tensor) -> Tensor:
        """In training the class token and a random share of each image's patches, (B, T, D) -> (B, K, D)."""
        if not (self.training and self.patch_dropout):
            return x
        num_patches = x.shape[1] - 1
        count = max(1, round(num_patches * (1 - self.patch_dropout)))
        chosen = 1 + torch.rand(len(x), num_patches, device=x.device).topk(count, dim=1).indices
        places = torch.cat([torch.zeros_like(chosen[:, :1]), chosen], dim=1)[..., None]
        return x.gather(1, places.expand(-1, -1, x.shape[2]))

    def encode(self, image: Tensor) -> Tensor:
        """The image as one vector: its class token after the last norm, (B, D)."""
        vector: Tensor = self.norm(self.states(image)[:, 0])
        return vector

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encode(image))  # (B, D) -> (B, num_classes)
        return logits
