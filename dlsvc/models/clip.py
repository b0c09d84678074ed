"""CLIP: an image tower and a text tower that meet in one space.

B batch, T tokens, D width of a tower, E shared width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.errors import UsageError
from dlsvc.models.vit import ViT
from dlsvc.nn.temperature import INITIAL, scale_of
from dlsvc.nn.transformer import Block
from dlsvc.registry import register_model


@dataclass(frozen=True)
class VisionArgs:
    """The image tower: ViT-B/32. In training it may leave out a share of each image's patches."""

    image_size: int = 224
    patch_size: int = 32
    in_channels: int = 3
    d_model: int = 768
    num_layers: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    patch_dropout: float = 0.0


@dataclass(frozen=True)
class TextArgs:
    """The text tower. `eos_id` marks the end of a text, where it is read out."""

    vocab_size: int = 49408
    max_seq_len: int = 77
    d_model: int = 512
    num_layers: int = 12
    num_heads: int = 8
    mlp_ratio: float = 4.0
    eos_id: int = 2


class TextEncoder(nn.Module):
    """A causal transformer, read out at the end-of-text token."""

    def __init__(
        self, args: TextArgs, *, activation: Literal["gelu", "quick_gelu"], dropout: float, norm_eps: float
    ) -> None:
        super().__init__()
        self.eos_id = args.eos_id
        self.tokens = nn.Embedding(args.vocab_size, args.d_model)
        self.positions = nn.Parameter(torch.zeros(args.max_seq_len, args.d_model))
        self.blocks = nn.ModuleList(
            Block(
                d_model=args.d_model,
                num_heads=args.num_heads,
                mlp_ratio=args.mlp_ratio,
                activation=activation,
                dropout=dropout,
                norm_eps=norm_eps,
            )
            for _ in range(args.num_layers)
        )
        self.norm = nn.LayerNorm(args.d_model, eps=norm_eps)
        self._initialise(args)

    def _initialise(self, args: TextArgs) -> None:
        """As in the paper's code: residual branches are scaled down by the depth."""
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.01)
        width_std = args.d_model**-0.5
        residual_std = width_std * (2 * args.num_layers) ** -0.5
        for name, parameter in self.blocks.named_parameters():
            if parameter.dim() == 2:
                is_residual = name.endswith(("attention.output.weight", "mlp.fc2.weight"))
                std = residual_std if is_residual else (2 * args.d_model) ** -0.5 if "mlp" in name else width_std
                nn.init.normal_(parameter, std=std)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor, attention_mask: Tensor | None) -> Tensor:
        end = (tokens == self.eos_id).int().argmax(dim=1)  # the first one
        # The norm is each token's own.
        vector: Tensor = self.norm(self._stream(tokens, attention_mask)[torch.arange(len(end), device=end.device), end])
        return vector  # (B, D)

    def states(self, tokens: Tensor, attention_mask: Tensor | None) -> Tensor:
        """What each token has come to, (B, T, D)."""
        found: Tensor = self.norm(self._stream(tokens, attention_mask))
        return found

    def _stream(self, tokens: Tensor, attention_mask: Tensor | None) -> Tensor:
        length = tokens.shape[1]
        if length > len(self.positions):
            raise UsageError(f"clip: texts have {length} tokens, the model's max_seq_len is {len(self.positions)}")
        x: Tensor = self.tokens(tokens) + self.positions[:length]  # (B, T) -> (B, T, D)
        for block in self.blocks:
            x = block(x, is_causal=True, keep=attention_mask)
        return x


@register_model(
    "clip",
    task="contrastive",
    tiny={
        "embed_dim": 8,
        "vision": {"image_size": 16, "patch_size": 8, "d_model": 16, "num_layers": 1, "num_heads": 2},
        "text": {"vocab_size": 32, "max_seq_len": 8, "d_model": 16, "num_layers": 2, "num_heads": 2},
    },
)
class CLIP(nn.Module):
    """Contrastive language-image pre-training (Radford et al., 2021), ViT-B/32 by default.

    Embeddings have length 1. `logit_scale` is learned as a logarithm and given as its exponential, at most 100. Either
    input may be None, and its embedding is then left out. `vision` and `text` may also be mappings of their fields.
    """

    def __init__(
        self,
        *,
        embed_dim: int = 512,
        vision: VisionArgs = VisionArgs(),
        text: TextArgs = TextArgs(),
        quick_gelu: bool = True,
        dropout: float = 0.0,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        vision = VisionArgs(**vision) if isinstance(vision, Mapping) else vision
        text = TextArgs(**text) if isinstance(text, Mapping) else text
        activation: Literal["gelu", "quick_gelu"] = "quick_gelu" if quick_gelu else "gelu"
        self.vision_encoder = ViT(
            **vars(vision),
            dropout=dropout,
            num_classes=0,
            norm_eps=norm_eps,
            activation=activation,
            patch_bias=False,
            embedding_norm=True,
        )
        self.text_encoder = TextEncoder(text, activation=activation, dropout=dropout, norm_eps=norm_eps)
        self.vision_projection = nn.Linear(vision.d_model, embed_dim, bias=False)
        self.text_projection = nn.Linear(text.d_model, embed_dim, bias=False)
        nn.init.normal_(self.vision_projection.weight, std=vision.d_model**-0.5)
        nn.init.normal_(self.text_projection.weight, std=text.d_model**-0.5)
        # One element and not a scalar: sharded strategies split parameters along their first dimension.
        self.logit_scale = nn.Parameter(torch.full((1,), INITIAL))

    def forward(
        self, image: Tensor | None, tokens: Tensor | None, attention_mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        found = {"logit_scale": scale_of(self.logit_scale)}  # 0-d
        if image is not None:
            found["image_embeds"] = _unit(self.vision_projection(self.vision_encoder(image)))  # (B, E)
        if tokens is not None:
            found["text_embeds"] = _unit(self.text_projection(self.text_encoder(tokens, attention_mask)))  # (B, E)
        return found


def _unit(x: Tensor) -> Tensor:
    """Rows of length 1, in float32 whatever the precision of the towers."""
    return F.normalize(x.float(), dim=-1)
