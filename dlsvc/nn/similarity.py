"""How alike a query and a key are, in the course's five ways.

B batch, N heads of width K, T queries, S keys. Each is a module: queries (B, N, T, K) and keys (B, N, S, K) give
(B, N, T, S). `logits` is what attention puts through softmax to weigh values by.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from dlsvc.errors import UsageError, did_you_mean

SimilarityName = Literal["dot", "scaled-dot", "general", "additive", "kernel"]


class Dot(nn.Module):
    """q . k (Luong, Pham and Manning 2015, equation 8)."""

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        return query @ key.transpose(-2, -1)

    def logits(self, query: Tensor, key: Tensor) -> Tensor:
        found: Tensor = self(query, key)
        return found


class ScaledDot(Dot):
    """q . k / sqrt(K) (Vaswani et al. 2017, equation 1)."""

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        return super().forward(query, key) / math.sqrt(query.shape[-1])


class General(Dot):
    """q . W k with a matrix a head, which begins as one (Luong, Pham and Manning 2015, equation 8)."""

    def __init__(self, num_heads: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(width).repeat(num_heads, 1, 1))

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        return super().forward(query @ self.weight, key)


class Additive(Dot):
    """w_q . q + w_k . k, with vectors of each head.

    Softmax over the keys takes the query's part away again: its gradient would be nothing but rounding, so it is not
    trained. Bahdanau, Cho and Bengio (2015) have a tanh in between, which keeps it.
    """

    def __init__(self, num_heads: int, width: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(num_heads, width) / math.sqrt(width), requires_grad=False)
        self.key = nn.Parameter(torch.randn(num_heads, width) / math.sqrt(width))

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        of_queries, of_keys = (query * self.query[:, None]).sum(-1), (key * self.key[:, None]).sum(-1)
        return of_queries[..., :, None] + of_keys[..., None, :]


class Kernel(nn.Module):
    """exp(-|q - k|^2 / (2 sqrt(K))): a Gaussian as wide as scaled dot products are large. Weighing values by it over
    its sum is Nadaraya's and Watson's regression (1964), so its logits are its logarithm.
    """

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        return self.logits(query, key).exp()

    def logits(self, query: Tensor, key: Tensor) -> Tensor:
        squares = query.square().sum(-1)[..., :, None] + key.square().sum(-1)[..., None, :]
        return (query @ key.transpose(-2, -1) - squares / 2) / math.sqrt(query.shape[-1])


_KINDS: dict[str, type[nn.Module]] = {
    "dot": Dot,
    "scaled-dot": ScaledDot,
    "general": General,
    "additive": Additive,
    "kernel": Kernel,
}


def build_similarity(name: SimilarityName, *, num_heads: int, width: int) -> Dot | Kernel:
    """One of them by its name. Raises UsageError for another."""
    if name not in _KINDS:
        raise UsageError(f"no similarity is called {name!r}{did_you_mean(name, _KINDS)}")
    learnt = name in ("general", "additive")
    found = _KINDS[name](num_heads, width) if learnt else _KINDS[name]()
    assert isinstance(found, Dot | Kernel)
    return found
