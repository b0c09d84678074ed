"""Latent diffusion: a denoiser that reads a text, on the latents of an autoencoder.

B batch, Z channels of a latent, h and w its sides, T tokens, D width of the text, E width of the time's embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.models import clip
from dlsvc.models.kl_autoencoder import KLAutoencoder
from dlsvc.nn.denoiser import DenoisingUNet, time_features
from dlsvc.registry import register_model


@dataclass(frozen=True)
class AutoencoderArgs:
    """The first stage: Stable Diffusion's."""

    widths: tuple[int, ...] = (128, 256, 512, 512)
    blocks: int = 2
    groups: int = 32
    latent_channels: int = 4


@dataclass(frozen=True)
class TextArgs:
    """The text's encoder: that of CLIP ViT-L/14. Texts are marked by `bos_id` and `eos_id`, filled by `pad_id`."""

    vocab_size: int = 49408
    max_seq_len: int = 77
    d_model: int = 768
    num_layers: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    bos_id: int = 1
    eos_id: int = 2
    pad_id: int = 0
    quick_gelu: bool = True


@dataclass(frozen=True)
class UNetArgs:
    """The denoiser: Stable Diffusion 1's, but for heads of one width in every stage."""

    widths: tuple[int, ...] = (320, 640, 1280, 1280)
    attention: tuple[bool, ...] = (True, True, True, False)
    blocks: int = 2
    head_dim: int = 40
    groups: int = 32
    dropout: float = 0.0


class Denoiser(nn.Module):
    """What is trained: `forward(latent, step, tokens)` predicts, of noisy latents (B, Z, h, w) at training steps (B,)
    and with texts (B, T), what the task asks for, (B, Z, h, w).
    """

    def __init__(self, latent_channels: int, text: TextArgs, unet: UNetArgs) -> None:
        super().__init__()
        embed_dim = 4 * unet.widths[0]
        self.features = unet.widths[0]
        fields = {name: value for name, value in vars(text).items() if name not in ("bos_id", "pad_id", "quick_gelu")}
        self.text = clip.TextEncoder(
            clip.TextArgs(**fields),
            activation="quick_gelu" if text.quick_gelu else "gelu",
            dropout=0.0,
            norm_eps=1e-5,
        )
        self.time1 = nn.Linear(self.features, embed_dim)
        self.time2 = nn.Linear(embed_dim, embed_dim)
        self.unet = DenoisingUNet(
            in_channels=latent_channels,
            out_channels=latent_channels,
            **vars(unet),
            embed_dim=embed_dim,
            context_dim=text.d_model,
        )

    def forward(self, latent: Tensor, step: Tensor, tokens: Tensor) -> Tensor:
        return self.denoised(latent, step, self.text.states(tokens, None))

    def denoised(self, latent: Tensor, step: Tensor, context: Tensor) -> Tensor:
        """The same from the encoded text (B, T, D)."""
        time = self.time2(F.silu(self.time1(time_features(step, self.features))))  # (B,) -> (B, E)
        predicted: Tensor = self.unet(latent, time, context)
        return predicted


@register_model(
    "latent_diffusion",
    task="latent-denoising",
    metric="label_accuracy",
    tiny={
        "image_size": 8,
        "in_channels": 1,
        "latent_scale": 1.0,
        "autoencoder": {"widths": (4, 8), "blocks": 1, "groups": 2, "latent_channels": 2},
        "text": {"vocab_size": 32, "max_seq_len": 8, "d_model": 16, "num_layers": 1, "num_heads": 2},
        "unet": {"widths": (8, 16), "attention": (False, True), "blocks": 1, "head_dim": 8, "groups": 4},
    },
)
class LatentDiffusion(nn.Module):
    """Stable Diffusion's shape (Rombach et al. 2022): diffusion in an autoencoder's latents, which attends to a text.

    A composite: the autoencoder is KLAutoencoder's whole model, starts from a trained one's weights
    (`init_from: {"autoencoder.*": NAME}`) and is never trained here. Latents are multiplied by `latent_scale`, one over
    their deviation, which that model's evaluation gives as latent_std. Images are in [-1, 1].
    """

    def __init__(
        self,
        *,
        image_size: int = 512,
        in_channels: int = 3,
        latent_scale: float = 0.18215,
        autoencoder: AutoencoderArgs = AutoencoderArgs(),
        text: TextArgs = TextArgs(),
        unet: UNetArgs = UNetArgs(),
    ) -> None:
        super().__init__()
        parts = AutoencoderArgs(**autoencoder) if isinstance(autoencoder, Mapping) else autoencoder
        text = TextArgs(**text) if isinstance(text, Mapping) else text
        unet = UNetArgs(**unet) if isinstance(unet, Mapping) else unet
        self.latent_scale = latent_scale
        self.pad_id = text.pad_id
        # The tokens of a text that says nothing.
        self.no_text = (text.bos_id, text.eos_id, *[text.pad_id] * (text.max_seq_len - 2))
        self.autoencoder = KLAutoencoder(image_size=image_size, in_channels=in_channels, **vars(parts))
        self.autoencoder.requires_grad_(False)
        self.denoiser = Denoiser(parts.latent_channels, text, unet)
