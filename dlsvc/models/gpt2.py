"""GPT-2: a decoder-only language model.

B batch, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.errors import UsageError
from dlsvc.nn.attention import Memory
from dlsvc.nn.transformer import Block, block_memories
from dlsvc.registry import register_model

_INIT_STD = 0.02


@register_model(
    "gpt2",
    task="language-modeling",
    tiny={"vocab_size": 32, "max_seq_len": 8, "d_model": 16, "num_layers": 2, "num_heads": 2, "dropout": 0.0},
)
class GPT2(nn.Module):
    """Radford et al. (2019), the small size by default: learned positions, the norm before each sub-layer, GELU by its
    tanh, and a head that is the embedding's table.
    """

    def __init__(
        self,
        *,
        vocab_size: int = 50257,
        max_seq_len: int = 1024,
        d_model: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        dropout: float = 0.1,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.max_seq_len = max_seq_len
        self.tokens = nn.Embedding(vocab_size, d_model)
        self.positions = nn.Embedding(max_seq_len, d_model)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(
                d_model=d_model,
                num_heads=num_heads,
                mlp_ratio=mlp_ratio,
                activation="tanh_gelu",
                dropout=dropout,
                norm_eps=norm_eps,
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(d_model, eps=norm_eps)
        self._initialise(num_layers)

    def _initialise(self, num_layers: int) -> None:
        """Normal weights; those that end a residual branch are scaled down by the number of branches (section 2.3)."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2:
                is_residual = name.endswith(("attention.output.weight", "mlp.fc2.weight"))
                nn.init.normal_(parameter, std=_INIT_STD / (2 * num_layers) ** 0.5 if is_residual else _INIT_STD)

    def memories(self) -> list[tuple[Memory, Memory]]:
        return block_memories(len(self.blocks))

    def forward(
        self,
        tokens: Tensor,
        attention_mask: Tensor | None = None,
        *,
        positions: Tensor | None = None,
        memories: list[tuple[Memory, Memory]] | None = None,
    ) -> Tensor:
        """Logits of the token after each, (B, T) -> (B, T, V). With memories, `tokens` go on where those end."""
        length = tokens.shape[1]
        if positions is None:
            if length > self.max_seq_len:
                raise UsageError(f"gpt2: texts have {length} tokens, the model's max_seq_len is {self.max_seq_len}")
            positions = torch.arange(length, device=tokens.device)
        x = self.dropout(self.tokens(tokens) + self.positions(positions))  # (B, T, D)
        for place, block in enumerate(self.blocks):
            x = block(x, is_causal=True, keep=attention_mask, memories=memories[place] if memories else None)
        logits: Tensor = F.linear(self.norm(x), self.tokens.weight)
        return logits
