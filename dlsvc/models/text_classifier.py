"""A classifier of texts: a transformer encoder, or a bag of words.

B batch, T tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dlsvc.errors import UsageError
from dlsvc.nn.transformer import Block
from dlsvc.registry import register_model

_INIT_STD = 0.02


@register_model(
    "text_classifier",
    task="classification",
    tiny={
        "vocab_size": 32,
        "max_seq_len": 8,
        "d_model": 16,
        "num_layers": 2,
        "num_heads": 2,
        "num_classes": 3,
        "dropout": 0.0,
    },
)
class TextClassifier(nn.Module):
    """Embedded tokens with learned positions, blocks with the norm before each sub-layer, and the mean over the tokens
    that count, which `encode` gives.

    `num_layers: 0` is fastText (Joulin et al., 2017): a bag of embeddings and a linear layer, which knows no positions.
    """

    def __init__(
        self,
        *,
        vocab_size: int = 4096,
        max_seq_len: int = 32,
        d_model: int = 128,
        num_layers: int = 2,
        num_heads: int = 4,
        mlp_ratio: float = 4.0,
        dropout: float = 0.1,
        num_classes: int = 2,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.max_seq_len = max_seq_len
        self.tokens = nn.Embedding(vocab_size, d_model)
        self.positions = nn.Parameter(torch.zeros(max_seq_len, d_model)) if num_layers else None
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(d_model=d_model, num_heads=num_heads, mlp_ratio=mlp_ratio, dropout=dropout, norm_eps=norm_eps)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(d_model, eps=norm_eps) if num_layers else nn.Identity()
        self.head = nn.Linear(d_model, num_classes)
        self._initialise()

    def _initialise(self) -> None:
        """BERT's: truncated normal weights, zero biases."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=_INIT_STD)
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.tokens.weight, std=_INIT_STD)
        if self.positions is not None:
            nn.init.trunc_normal_(self.positions, std=_INIT_STD)

    def encode(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        """Each text as one vector, (B, D), whatever is padded after it."""
        length = tokens.shape[1]
        if length > self.max_seq_len:
            raise UsageError(f"text_classifier: texts have {length} tokens, the model's max_seq_len {self.max_seq_len}")
        x = self.tokens(tokens)  # (B, T) -> (B, T, D)
        x = self.dropout(x if self.positions is None else x + self.positions[:length])
        for block in self.blocks:
            x = block(x, keep=attention_mask)
        weight = attention_mask.to(x.dtype)[..., None]  # (B, T, 1)
        vector: Tensor = (self.norm(x) * weight).sum(dim=1) / weight.sum(dim=1)
        return vector

    def forward(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encode(tokens, attention_mask))  # (B, D) -> (B, num_classes)
        return logits
