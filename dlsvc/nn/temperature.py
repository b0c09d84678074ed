"""The learned temperature of a contrast: it begins at 0.07 and keeps logits from being scaled by more than 100 (Radford
et al. 2021, section 2.5).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# The logarithm of 1 / 0.07.
INITIAL = math.log(1 / 0.07)
_MOST = 100.0


def scale_of(logarithm: Tensor) -> Tensor:
    """What similarities are multiplied by: the exponential of (1,), at most 100, 0-d float32.

    The gradient is the exponential's beyond that too: a clamp's is 0 there, and a scale that got so far would stay for
    good.
    """
    scale = logarithm.float().exp()[0]
    found: Tensor = torch.clamp(scale, max=_MOST).detach() + (scale - scale.detach())
    return found
