"""BLIP-2's first stage: a Q-Former learns, on a frozen image encoder, what of an image texts are about.

B batch, S tokens of an image, Q queries, T tokens of a text, D width of the Q-Former, E shared width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from dlsvc.generation import Reorder, Step
from dlsvc.models.bert import MaskedHead
from dlsvc.models.blip import PairModel
from dlsvc.models.vit import ViT
from dlsvc.nn.attention import Memory
from dlsvc.nn.qformer import QFormer
from dlsvc.registry import register_model


@dataclass(frozen=True)
class VisionArgs:
    """The frozen image encoder: that of CLIP ViT-L/14."""

    image_size: int = 224
    patch_size: int = 14
    in_channels: int = 3
    d_model: int = 1024
    num_layers: int = 24
    num_heads: int = 16
    mlp_ratio: float = 4.0
    norm_eps: float = 1e-5


@dataclass(frozen=True)
class QFormerArgs:
    """The Q-Former: BERT base's size with 32 queries."""

    num_queries: int = 32
    d_model: int = 768
    num_layers: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    cross_every: int = 2
    norm_eps: float = 1e-12


@dataclass(frozen=True)
class TextArgs:
    """What the Q-Former reads and writes."""

    vocab_size: int = 30523
    max_seq_len: int = 512


class FrozenEncoder(ViT):
    """CLIP's image tower without its last block, as the paper takes it (section 3.4), and not normalised."""

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, S, width)"""
        return self.states(image, len(self.blocks) - 1)


def frozen_encoder(vision: VisionArgs) -> FrozenEncoder:
    encoder = FrozenEncoder(
        **vars(vision), num_classes=0, activation="quick_gelu", patch_bias=False, embedding_norm=True
    )
    encoder.requires_grad_(False)
    return encoder


@register_model(
    "blip2_qformer",
    task="bootstrapped",
    tiny={
        "embed_dim": 8,
        "dropout": 0.0,
        "vision": {"image_size": 16, "patch_size": 8, "d_model": 16, "num_layers": 2, "num_heads": 2},
        "qformer": {"num_queries": 3, "d_model": 16, "num_layers": 2, "num_heads": 2},
        "text": {"vocab_size": 32, "max_seq_len": 8},
    },
)
class BLIP2QFormer(PairModel):
    """The Q-Former with its three objectives (Li et al. 2023, section 3.2).

    The image tower is CLIP's and never trained (`init_from: {"vision_encoder.*": NAME}`). An image has an embedding for
    each query, of which the one nearest to a text counts.
    """

    def __init__(
        self,
        *,
        embed_dim: int = 256,
        vision: VisionArgs = VisionArgs(),
        qformer: QFormerArgs = QFormerArgs(),
        text: TextArgs = TextArgs(),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        vision = VisionArgs(**vision) if isinstance(vision, Mapping) else vision
        qformer = QFormerArgs(**qformer) if isinstance(qformer, Mapping) else qformer
        text = TextArgs(**text) if isinstance(text, Mapping) else text
        self.vision_encoder = frozen_encoder(vision)
        self.qformer = QFormer(**vars(qformer), **vars(text), context_dim=vision.d_model, dropout=dropout)
        self.vision_projection = nn.Linear(qformer.d_model, embed_dim)
        self.text_projection = nn.Linear(qformer.d_model, embed_dim)
        self.match_head = nn.Linear(qformer.d_model, 2)
        self.head = MaskedHead(qformer.d_model, text.vocab_size, qformer.norm_eps)

    @property
    def vectors_shape(self) -> tuple[int, ...]:
        return (len(self.qformer.queries), *super().vectors_shape)

    @property
    def max_text_len(self) -> int:
        return self.qformer.max_seq_len

    def image_vectors(self, states: Tensor) -> Tensor:
        found: Tensor = self.vision_projection(self.qformer(states))
        return found

    def text_vectors(self, tokens: Tensor, attention_mask: Tensor | None) -> Tensor:
        found: Tensor = self.text_projection(self.qformer(None, tokens, attention_mask)[:, 0])
        return found

    def match(self, states: Tensor, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        """The mean of the queries' logits."""
        count = len(self.qformer.queries)
        logits: Tensor = self.match_head(self.qformer(states, tokens, attention_mask)[:, :count]).mean(1)
        return logits

    def write(self, states: Tensor, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        found = self.qformer(states, tokens, attention_mask, writes=True)[:, len(self.qformer.queries) :]
        logits: Tensor = self.head(found, self._table())
        return logits

    def writing(self, image: Tensor, begin: Tensor, num_beams: int) -> tuple[Step, Reorder]:
        """The steps of a beam search that writes of images, from what begins a text (B,)."""
        memories = [Memory() for _ in self.qformer.blocks]
        self.qformer(self.vision_encoder(image).repeat_interleave(num_beams, dim=0), memories=memories)
        begin, place = begin.repeat_interleave(num_beams), -1

        def step(token: Tensor | None) -> Tensor:
            nonlocal place
            place += 1
            token = begin if token is None else token
            found = self.qformer(None, token[:, None], start=place, memories=memories)
            logits: Tensor = self.head(found, self._table())
            return logits[:, -1]

        def reorder(rows: Tensor) -> None:
            for memory in memories:
                memory.select(rows)

        return step, reorder

    def _table(self) -> Tensor:
        assert self.qformer.tokens is not None
        return self.qformer.tokens.weight
