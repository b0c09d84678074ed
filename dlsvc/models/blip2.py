"""BLIP-2's second stage: what the Q-Former takes from an image is told to a frozen language model.

B batch, S tokens of an image, Q queries, T tokens of a text, D width of the language model, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dlsvc.generation import Reorder, Step
from dlsvc.models.blip2_qformer import QFormerArgs, VisionArgs, frozen_encoder
from dlsvc.models.llama import Llama
from dlsvc.nn.attention import Memory
from dlsvc.nn.qformer import QFormer
from dlsvc.registry import register_model


@dataclass(frozen=True)
class LanguageArgs:
    """The frozen language model: Llama's 7B size."""

    vocab_size: int = 32000
    max_seq_len: int = 2048
    d_model: int = 4096
    num_layers: int = 32
    num_heads: int = 32
    num_kv_heads: int | None = None
    hidden_dim: int = 11008
    rotary_base: float = 10000.0
    norm_eps: float = 1e-6
    tied: bool = False


class Bridge(nn.Module):
    """What is trained: the Q-Former's queries, without its texts, and a layer into the language model's space."""

    def __init__(self, qformer: QFormerArgs, *, context_dim: int, d_model: int, dropout: float) -> None:
        super().__init__()
        self.qformer = QFormer(
            **vars(qformer), vocab_size=None, max_seq_len=0, context_dim=context_dim, dropout=dropout
        )
        self.projection = nn.Linear(qformer.d_model, d_model)

    def forward(self, states: Tensor) -> Tensor:
        """An encoded image as words, (B, S, E) -> (B, Q, D)."""
        words: Tensor = self.projection(self.qformer(states))
        return words


class PromptedLlama(Llama):
    """A language model that is told something before a text begins."""

    def forward(  # type: ignore[override]
        self,
        told: Tensor | None,
        tokens: Tensor,
        attention_mask: Tensor | None = None,
        *,
        positions: Tensor | None = None,
        memories: list[tuple[Memory, Memory]] | None = None,
    ) -> Tensor:
        """Logits of the token after each, (B, T, V). What is told, (B, Q, D), stands after the token that begins a
        text, as what is written before it does.
        """
        x = self.tokens(tokens)
        if told is not None:
            x = torch.cat([x[:, :1], told.to(x.dtype), x[:, 1:]], dim=1)
            if attention_mask is not None:
                ones = attention_mask.new_ones(told.shape[:2])
                attention_mask = torch.cat([attention_mask[:, :1], ones, attention_mask[:, 1:]], dim=1)
        found = super().forward(None, attention_mask, positions=positions, memories=memories, embeddings=x)
        return found[:, -tokens.shape[1] :]


@register_model(
    "blip2",
    task="captioning",
    tiny={
        "dropout": 0.0,
        "vision": {"image_size": 16, "patch_size": 8, "d_model": 16, "num_layers": 2, "num_heads": 2},
        "qformer": {"num_queries": 3, "d_model": 16, "num_layers": 2, "num_heads": 2},
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
class BLIP2(nn.Module):
    """A frozen image tower and a frozen language model, and the Q-Former between them (Li et al. 2023, section 3.3).

    A composite: the tower is CLIP's, the Q-Former begins as the first stage's and the language model is a `llama`
    (`init_from: {"vision_encoder.*": A, "bridge.qformer.*": A, "language.*": B}`). A text has room for `max_seq_len`
    tokens less one for each query.
    """

    def __init__(
        self,
        *,
        vision: VisionArgs = VisionArgs(),
        qformer: QFormerArgs = QFormerArgs(),
        language: LanguageArgs = LanguageArgs(),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        vision = VisionArgs(**vision) if isinstance(vision, Mapping) else vision
        qformer = QFormerArgs(**qformer) if isinstance(qformer, Mapping) else qformer
        language = LanguageArgs(**language) if isinstance(language, Mapping) else language
        self.vision_encoder = frozen_encoder(vision)
        self.bridge = Bridge(qformer, context_dim=vision.d_model, d_model=language.d_model, dropout=dropout)
        self.language = PromptedLlama(**vars(language))
        self.language.requires_grad_(False)
        self.max_text_len = language.max_seq_len - qformer.num_queries

    def writing(self, image: Tensor, begin: Tensor, num_beams: int) -> tuple[Step, Reorder]:
        """The steps of a beam search that writes of images, from what begins a text (B,)."""
        told = self.bridge(self.vision_encoder(image)).repeat_interleave(num_beams, dim=0)
        memories, place = self.language.memories(), told.shape[1]
        begin = begin.repeat_interleave(num_beams)

        def step(token: Tensor | None) -> Tensor:
            nonlocal place
            if token is None:
                logits: Tensor = self.language(told, begin[:, None], memories=memories)
                return logits[:, -1]
            place += 1
            positions = torch.full_like(token, place)[:, None]
            logits = self.language(None, token[:, None], positions=positions, memories=memories)
            return logits[:, -1]

        def reorder(rows: Tensor) -> None:
            for own, _ in memories:
                own.select(rows)

        return step, reorder
