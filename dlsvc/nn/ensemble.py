"""Several classifiers as one: the mean of what each holds for likely."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Members that read the same input and score the same classes. `forward` gives the logarithm of the mean of their
    probabilities, (B, num_classes), whose softmax is that mean.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, *inputs: Tensor) -> Tensor:
        logits = torch.stack([member(*inputs).float() for member in self.members])  # (M, B, num_classes)
        return logits.log_softmax(-1).logsumexp(0) - math.log(len(logits))
