"""word2vec: two tables of vectors, one for words and one for what stands beside them.

B batch, T tokens, P pairs, N targets of each, V vocabulary, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dlsvc.registry import register_model


@register_model("word2vec", task="word-embedding", tiny={"vocab_size": 32, "d_model": 8, "max_seq_len": 8})
class Word2Vec(nn.Module):
    """Mikolov et al. (2013). `encode` gives a text as the mean of its words' vectors. `max_seq_len` says how long texts
    may be for the data's sake; nothing depends on it.
    """

    def __init__(self, *, vocab_size: int = 30000, d_model: int = 300, max_seq_len: int = 1000) -> None:
        super().__init__()
        self.words = nn.Embedding(vocab_size, d_model)
        self.contexts = nn.Embedding(vocab_size, d_model)
        # Both small: with contexts of zero, as in the authors' code, words would get no gradient at first.
        for table in (self.words, self.contexts):
            nn.init.uniform_(table.weight, -0.5 / d_model, 0.5 / d_model)

    def forward(self, inputs: Tensor, weights: Tensor, targets: Tensor) -> Tensor:
        """How likely targets (P, N) stand beside inputs, as logits (P, N): products with the sum of the inputs' vectors
        (P, K) times their weights (P, K), which is 1 for one word and 1 / K for a bag of K.
        """
        centre = torch.einsum("pk,pkd->pd", weights, self.words(inputs))
        logits: Tensor = torch.einsum("pd,pnd->pn", centre, self.contexts(targets))
        return logits

    def encode(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        """The mean of a text's words, (B, D), special tokens left out; zero of a text without any."""
        weight = ((tokens > 3) & attention_mask)[..., None].float()
        vector: Tensor = (self.words(tokens) * weight).sum(1) / weight.sum(1).clamp(min=1)
        return vector
