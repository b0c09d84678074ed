"""Running totals that have the same bits every time, on GPUs too."""

from __future__ import annotations

import torch
from torch import Tensor

# Of a unit, as a float64's last place just below it.
_STEP = 2.0**-52


def running_totals(shares: Tensor) -> Tensor:
    """Of rows of probabilities (B, N) their sums so far, (B, N) float64, in steps of 2^-52.

    Added up as whole numbers: a GPU's scan of floats adds in an order that chance decides, so that torch refuses it
    where results must repeat.
    """
    steps = (shares.double() / _STEP).round().to(torch.int64)
    return steps.cumsum(1).double() * _STEP
