"""LLaVA: a language model that an image's patches are shown to as if they were words.

B batch, N images of a sample, P patches of each, T tokens, E width of the image tower, D width of the language model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.errors import UsageError
from dlsvc.models.llama import Llama
from dlsvc.models.vit import ViT
from dlsvc.nn.attention import Memory
from dlsvc.registry import register_model

# Stands in a text wherever a patch of an image is to be.
IMAGE_ID = -1


@dataclass(frozen=True)
class VisionArgs:
    """The image tower: that of CLIP ViT-L/14 at 336 pixels."""

    image_size: int = 336
    patch_size: int = 14
    in_channels: int = 3
    d_model: int = 1024
    num_layers: int = 24
    num_heads: int = 16
    mlp_ratio: float = 4.0


@dataclass(frozen=True)
class LanguageArgs:
    """The language model: Llama 2's 7B size."""

    vocab_size: int = 32000
    max_seq_len: int = 4096
    d_model: int = 4096
    num_layers: int = 32
    num_heads: int = 32
    num_kv_heads: int | None = None
    hidden_dim: int = 11008
    rotary_base: float = 10000.0
    dropout: float = 0.0
    norm_eps: float = 1e-5
    tied: bool = False


class PatchEncoder(ViT):
    """CLIP's image tower, read before its last block and without its class token: what it knows of each patch is
    clearer there (Liu et al. 2023, section 4.1).
    """

    def forward(self, image: Tensor) -> Tensor:
        """(B, N, C, H, W), or of one image (B, C, H, W), -> (B, N, P, E)"""
        several = image if image.ndim == 5 else image[:, None]
        patches = self.states(several.flatten(0, 1), len(self.blocks) - 1)[:, 1:]
        by_image: Tensor = patches.unflatten(0, several.shape[:2])
        return by_image


class Projector(nn.Module):
    """From the image tower's space into that of the words: two layers (Liu et al. 2024, section 3.2)."""

    def __init__(self, width: int, d_model: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, d_model)
        self.fc2 = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class Assistant(nn.Module):
    """What is trained: the projector, and the language model that reads what it makes of an image."""

    def __init__(self, width: int, language: LanguageArgs) -> None:
        super().__init__()
        self.projector = Projector(width, language.d_model)
        self.language = Llama(**vars(language))

    def forward(
        self,
        patches: Tensor | None,
        tokens: Tensor,
        attention_mask: Tensor,
        *,
        positions: Tensor | None = None,
        memories: list[tuple[Memory, Memory]] | None = None,
    ) -> Tensor:
        """Logits of the token after each, (B, T, V). Patches (B, N, P, E) stand, in order, where tokens are IMAGE_ID;
        images after those that a text has places for aren't seen.
        """
        x = self.language.tokens(tokens.clamp(min=0))
        if patches is not None:
            x = _placed(self.projector(patches), tokens == IMAGE_ID, x)
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device).expand(len(tokens), -1)
        logits: Tensor = self.language(None, attention_mask, positions=positions, memories=memories, embeddings=x)
        return logits


def _placed(images: Tensor, places: Tensor, words: Tensor) -> Tensor:
    """Words (B, T, D), and instead of them the rows of images (B, N, P, D) at the marked places (B, T)."""
    counts, (most, each) = places.sum(1), images.shape[1:3]
    if ((counts % each != 0) | (counts == 0) | (counts > most * each)).any():
        found = ", ".join(map(str, counts.unique().tolist()))
        raise UsageError(
            f"llava: texts have {found} places for patches, and an image has {each} (up to {most} images); "
            "data.text.image_tokens says how many places an image takes, and max_seq_len must leave room for all"
        )
    images = images.flatten(1, 2)
    order = (places.cumsum(1) - 1).clamp(min=0)
    rows = images.gather(1, order[..., None].expand(-1, -1, images.shape[2]))
    return torch.where(places[..., None], rows.to(words.dtype), words)


@register_model(
    "llava",
    task="conversation",
    tiny={
        "vision": {"image_size": 16, "patch_size": 8, "d_model": 16, "num_layers": 2, "num_heads": 2},
        "language": {
            "vocab_size": 32,
            "max_seq_len": 12,
            "d_model": 16,
            "num_layers": 2,
            "num_heads": 4,
            "num_kv_heads": 2,
            "hidden_dim": 32,
        },
    },
)
class LLaVA(nn.Module):
    """Visual instruction tuning (Liu et al. 2023), with the two-layer projector of LLaVA 1.5, its 7B size by default.

    A composite: the image tower is CLIP's and never trained here (`init_from: {"vision_encoder.*": NAME}`). In the
    paper's first stage `freeze: ["assistant.language.*"]` leaves the projector alone to be trained; the second goes on
    from it with all of the assistant.
    """

    def __init__(
        self,
        *,
        vision: VisionArgs = VisionArgs(),
        language: LanguageArgs = LanguageArgs(),
        quick_gelu: bool = True,
        vision_norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        vision = VisionArgs(**vision) if isinstance(vision, Mapping) else vision
        language = LanguageArgs(**language) if isinstance(language, Mapping) else language
        self.vision_encoder = PatchEncoder(
            **vars(vision),
            num_classes=0,
            norm_eps=vision_norm_eps,
            activation="quick_gelu" if quick_gelu else "gelu",
            patch_bias=False,
            embedding_norm=True,
        )
        self.vision_encoder.requires_grad_(False)
        self.assistant = Assistant(vision.d_model, language)
