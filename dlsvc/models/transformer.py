"""The original transformer: an encoder reads a text, a decoder writes another.

B batch, S source tokens, T target tokens, D width, V vocabulary.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.errors import UsageError
from dlsvc.nn.attention import Memory
from dlsvc.nn.positions import sinusoids
from dlsvc.nn.transformer import Block, block_memories
from dlsvc.registry import register_model


@register_model(
    "transformer",
    task="translation",
    tiny={"vocab_size": 32, "max_seq_len": 8, "d_model": 16, "num_layers": 2, "num_heads": 2, "dropout": 0.0},
)
class Transformer(nn.Module):
    """Vaswani et al. (2017), the base size by default: sinusoidal positions, the norm after each sub-layer, ReLU, and
    one table for both embeddings, which are scaled by sqrt(D), and for the head.
    """

    def __init__(
        self,
        *,
        vocab_size: int = 37000,
        max_seq_len: int = 512,
        d_model: int = 512,
        num_layers: int = 6,
        num_heads: int = 8,
        mlp_ratio: float = 4.0,
        dropout: float = 0.1,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.max_seq_len, self.scale = max_seq_len, math.sqrt(d_model)
        self.tokens = nn.Embedding(vocab_size, d_model)
        self.register_buffer("positions", sinusoids(max_seq_len, d_model), persistent=False)
        self.dropout = nn.Dropout(dropout)

        def block(context_dim: int | None) -> Block:
            return Block(
                d_model=d_model,
                num_heads=num_heads,
                mlp_ratio=mlp_ratio,
                activation="relu",
                dropout=dropout,
                norm_eps=norm_eps,
                post_norm=True,
                context_dim=context_dim,
            )

        self.encoder = nn.ModuleList(block(None) for _ in range(num_layers))
        self.decoder = nn.ModuleList(block(d_model) for _ in range(num_layers))
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.xavier_uniform_(parameter)
        nn.init.normal_(self.tokens.weight, std=d_model**-0.5)

    def memories(self) -> list[tuple[Memory, Memory]]:
        return block_memories(len(self.decoder))

    def encode(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        """What the encoder makes of each token, (B, S, D)."""
        x = self._embedded(tokens, 0)
        for block in self.encoder:
            x = block(x, keep=attention_mask)
        return x

    def decode(
        self,
        target: Tensor,
        source: Tensor,
        source_mask: Tensor,
        target_mask: Tensor | None = None,
        *,
        start: int = 0,
        memories: list[tuple[Memory, Memory]] | None = None,
    ) -> Tensor:
        """Logits of the token after each of the target's, (B, T, V), which stand from place `start` on."""
        x = self._embedded(target, start)
        for place, block in enumerate(self.decoder):
            x = block(
                x,
                source,
                is_causal=True,
                keep=target_mask,
                context_keep=source_mask,
                memories=memories[place] if memories else None,
            )
        logits: Tensor = F.linear(x, self.tokens.weight)
        return logits

    def forward(
        self, tokens: Tensor, attention_mask: Tensor, target: Tensor, target_mask: Tensor | None = None
    ) -> Tensor:
        return self.decode(target, self.encode(tokens, attention_mask), attention_mask, target_mask)

    def _embedded(self, tokens: Tensor, start: int) -> Tensor:
        end = start + tokens.shape[1]
        if end > self.max_seq_len:
            raise UsageError(f"transformer: texts have {end} tokens, the model's max_seq_len is {self.max_seq_len}")
        assert isinstance(self.positions, Tensor)
        embedded: Tensor = self.dropout(self.tokens(tokens) * self.scale + self.positions[start:end])
        return embedded
