"""Audio spectrogram transformer.

B batch, M bins, T steps, P patches, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dlsvc.errors import UsageError
from dlsvc.nn.transformer import Block
from dlsvc.registry import register_model

_INIT_STD = 0.02


@register_model(
    "audio_transformer",
    task="classification",
    tiny={
        "num_bins": 16,
        "num_steps": 20,
        "patch_size": 8,
        "stride": 4,
        "d_model": 16,
        "num_layers": 2,
        "num_heads": 2,
        "num_classes": 3,
    },
)
class AudioTransformer(nn.Module):
    """AST (Gong, Chung and Glass, 2021), the base size for AudioSet by default: overlapping square patches of the
    spectrogram, a class and a distillation token, learned positions, and the mean of both tokens after the last norm,
    which `encode` gives.
    """

    def __init__(
        self,
        *,
        num_bins: int = 128,
        num_steps: int = 1024,
        patch_size: int = 16,
        stride: int = 10,
        d_model: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        num_classes: int = 527,
        norm_eps: float = 1e-12,
    ) -> None:
        super().__init__()
        if min(num_bins, num_steps) < patch_size:
            raise UsageError(f"audio_transformer: {num_bins} x {num_steps} holds no patch of {patch_size}")
        self.shape = (num_bins, num_steps)
        self.patches = nn.Conv2d(1, d_model, patch_size, stride=stride)
        num_patches = ((num_bins - patch_size) // stride + 1) * ((num_steps - patch_size) // stride + 1)
        self.class_token = nn.Parameter(torch.zeros(d_model))
        self.distillation_token = nn.Parameter(torch.zeros(d_model))
        self.positions = nn.Parameter(torch.zeros(2 + num_patches, d_model))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(d_model=d_model, num_heads=num_heads, mlp_ratio=mlp_ratio, dropout=dropout, norm_eps=norm_eps)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(d_model, eps=norm_eps)
        self.head_norm = nn.LayerNorm(d_model, eps=norm_eps)
        self.head = nn.Linear(d_model, num_classes)
        self._initialise()

    def _initialise(self) -> None:
        """Truncated normal weights and zero biases, as the vision transformer that AST begins with."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=_INIT_STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for parameter in (self.class_token, self.distillation_token, self.positions):
            nn.init.trunc_normal_(parameter, std=_INIT_STD)

    def encode(self, spectrogram: Tensor) -> Tensor:
        """The sound as one vector, (B, D)."""
        if tuple(spectrogram.shape[-2:]) != self.shape:
            found, own = ("{} x {}".format(*shape) for shape in (spectrogram.shape[-2:], self.shape))
            raise UsageError(f"audio_transformer: spectrograms are {found}, the model's bins and steps are {own}")
        x = self.patches(spectrogram).flatten(2).transpose(1, 2)  # (B, 1, M, T) -> (B, D, ., .) -> (B, P, D)
        tokens = torch.stack([self.class_token, self.distillation_token]).expand(len(x), 2, -1)
        x = torch.cat([tokens, x], dim=1) + self.positions  # (B, 2 + P, D)
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x)
        vector: Tensor = self.norm(x[:, :2]).mean(dim=1)
        return vector

    def forward(self, spectrogram: Tensor) -> Tensor:
        logits: Tensor = self.head(self.head_norm(self.encode(spectrogram)))  # (B, D) -> (B, num_classes)
        return logits
