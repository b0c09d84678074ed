"""GloVe: vectors of words whose products are the logarithms of how often they stand near each other.

B batch, T tokens, D width.
"""

from __future__ import annotations

from torch import Tensor, nn

from dlsvc.registry import register_model


@register_model("glove", task="co-occurrence", tiny={"vocab_size": 32, "d_model": 8})
class GloVe(nn.Module):
    """Pennington, Socher and Manning (2014), 300 wide as published by default: two tables of vectors and of biases. A
    word's vector is the sum of its two.
    """

    def __init__(self, *, vocab_size: int = 400000, d_model: int = 300, max_seq_len: int = 4) -> None:
        super().__init__()
        self.words = nn.Embedding(vocab_size, d_model)
        self.contexts = nn.Embedding(vocab_size, d_model)
        self.word_biases = nn.Embedding(vocab_size, 1)
        self.context_biases = nn.Embedding(vocab_size, 1)
        for table in (self.words, self.contexts, self.word_biases, self.context_biases):
            nn.init.uniform_(table.weight, -0.5 / d_model, 0.5 / d_model)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """The logarithm of the count that pairs of words (B,) should have, (B,)."""
        products = (self.words(one) * self.contexts(other)).sum(1)
        logs: Tensor = products + self.word_biases(one)[:, 0] + self.context_biases(other)[:, 0]
        return logs

    def encode(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        """The mean of a text's words, (B, D), special tokens left out; zero of a text without any."""
        weight = ((tokens > 3) & attention_mask)[..., None].float()
        vectors = self.words(tokens) + self.contexts(tokens)
        found: Tensor = (vectors * weight).sum(1) / weight.sum(1).clamp(min=1)
        return found
