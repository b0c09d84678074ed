"""Where gradients of several uses meet."""

from __future__ import annotations

from torch import Tensor


def fanned(x: Tensor) -> Tensor:
    """The input of a part that reads it more than once: what its uses send back is added up here, before it joins what
    others send. Engines that wrap the part do the same; without it the order of the sum, and so the last bits, would
    depend on the strategy.
    """
    return x.view_as(x)
