"""Llama: a decoder-only language model with rotary positions.

B batch, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.errors import UsageError
from dlsvc.nn.attention import Memory
from dlsvc.nn.llama import LlamaBlock, RMSNorm
from dlsvc.nn.transformer import block_memories
from dlsvc.registry import register_model

_INIT_STD = 0.02


@register_model(
    "llama",
    task="language-modeling",
    tiny={
        "vocab_size": 32,
        "max_seq_len": 8,
        "d_model": 16,
        "num_layers": 2,
        "num_heads": 4,
        "num_kv_heads": 2,
        "hidden_dim": 32,
    },
)
class Llama(nn.Module):
    """Touvron et al. (2023), the 7B size by default; `num_kv_heads` shares keys and values between heads as in the
    larger ones and in Llama 3. `tied` makes the embedding's table the head.
    """

    def __init__(
        self,
        *,
        vocab_size: int = 32000,
        max_seq_len: int = 2048,
        d_model: int = 4096,
        num_layers: int = 32,
        num_heads: int = 32,
        num_kv_heads: int | None = None,
        hidden_dim: int = 11008,
        rotary_base: float = 10000.0,
        dropout: float = 0.0,
        norm_eps: float = 1e-6,
        tied: bool = False,
    ) -> None:
        super().__init__()
        self.max_seq_len = max_seq_len
        self.tokens = nn.Embedding(vocab_size, d_model)
        self.blocks = nn.ModuleList(
            LlamaBlock(
                d_model=d_model,
                num_heads=num_heads,
                num_kv_heads=num_kv_heads or num_heads,
                hidden_dim=hidden_dim,
                rotary_base=rotary_base,
                dropout=dropout,
                norm_eps=norm_eps,
            )
            for _ in range(num_layers)
        )
        self.norm = RMSNorm(d_model, norm_eps)
        self.head = None if tied else nn.Linear(d_model, vocab_size, bias=False)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=_INIT_STD)

    def memories(self) -> list[tuple[Memory, Memory]]:
        return block_memories(len(self.blocks))

    def forward(
        self,
        tokens: Tensor | None,
        attention_mask: Tensor | None = None,
        *,
        positions: Tensor | None = None,
        memories: list[tuple[Memory, Memory]] | None = None,
        embeddings: Tensor | None = None,
    ) -> Tensor:
        """Logits of the token after each, (B, T) -> (B, T, V). With memories, `tokens` go on where those end. Vectors
        (B, T, D) may stand in for tokens, as those of an image do.
        """
        x = self.tokens(tokens) if embeddings is None else embeddings
        batch, length, _ = x.shape
        if positions is None:
            if length > self.max_seq_len:
                raise UsageError(f"llama: texts have {length} tokens, the model's max_seq_len is {self.max_seq_len}")
            positions = torch.arange(length, device=x.device).expand(batch, -1)
        for place, block in enumerate(self.blocks):
            x = block(x, positions=positions, keep=attention_mask, memory=memories[place][0] if memories else None)
        x = self.norm(x)
        logits: Tensor = F.linear(x, self.tokens.weight) if self.head is None else self.head(x)
        return logits
