"""BERT: an encoder that guesses masked words, and whose mean makes a vector of a text.

B batch, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.errors import UsageError
from dlsvc.nn.transformer import Block
from dlsvc.registry import register_model

_INIT_STD = 0.02


class MaskedHead(nn.Module):
    """From what a token has come to to logits over the vocabulary, by the embedding's own table."""

    def __init__(self, d_model: int, vocab_size: int, norm_eps: float) -> None:
        super().__init__()
        self.dense = nn.Linear(d_model, d_model)
        self.norm = nn.LayerNorm(d_model, eps=norm_eps)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        logits: Tensor = F.linear(self.norm(F.gelu(self.dense(x))), table) + self.bias
        return logits


@register_model(
    "bert",
    task="masked-language-modeling",
    tiny={"vocab_size": 32, "max_seq_len": 8, "d_model": 16, "num_layers": 2, "num_heads": 2, "dropout": 0.0},
)
class BERT(nn.Module):
    """Devlin et al. (2019), the base size by default: learned positions, the norm after each sub-layer, GELU. `encode`
    gives the mean over a text's tokens, as sentence encoders do (Reimers and Gurevych 2019); without `head` that is all
    it does. Every token is of segment 0.
    """

    def __init__(
        self,
        *,
        vocab_size: int = 30522,
        max_seq_len: int = 512,
        num_segments: int = 2,
        d_model: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        dropout: float = 0.1,
        norm_eps: float = 1e-12,
        head: bool = True,
    ) -> None:
        super().__init__()
        self.max_seq_len = max_seq_len
        self.tokens = nn.Embedding(vocab_size, d_model)
        self.positions = nn.Embedding(max_seq_len, d_model)
        self.segments = nn.Embedding(num_segments, d_model)
        self.norm = nn.LayerNorm(d_model, eps=norm_eps)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(
                d_model=d_model,
                num_heads=num_heads,
                mlp_ratio=mlp_ratio,
                dropout=dropout,
                norm_eps=norm_eps,
                post_norm=True,
            )
            for _ in range(num_layers)
        )
        self.head = MaskedHead(d_model, vocab_size, norm_eps) if head else None
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2:
                nn.init.normal_(parameter, std=_INIT_STD)

    def states(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        """What each token has come to, (B, T, D)."""
        length = tokens.shape[1]
        if length > self.max_seq_len:
            raise UsageError(f"bert: texts have {length} tokens, the model's max_seq_len is {self.max_seq_len}")
        x: Tensor = self.tokens(tokens) + self.positions.weight[:length] + self.segments.weight[0]
        x = self.dropout(self.norm(x))
        for block in self.blocks:
            x = block(x, keep=attention_mask)
        return x

    def encode(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        """Each text as one vector, (B, D), whatever is padded after it."""
        weight = attention_mask[..., None].float()  # (B, T, 1)
        vector: Tensor = (self.states(tokens, attention_mask).float() * weight).sum(1) / weight.sum(1)
        return vector

    def forward(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits of the token that stands at each place, (B, T, V)."""
        if self.head is None:
            raise UsageError("bert: without a head it guesses no words")
        logits: Tensor = self.head(self.states(tokens, attention_mask), self.tokens.weight)
        return logits
