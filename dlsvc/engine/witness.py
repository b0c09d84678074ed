"""A second account of a step's gradient, kept beside the strategy's own, to see that every rank's part reached it.

Ranks that hold a whole model can be compared with each other; ranks that hold shards have nothing in common to compare.
What any strategy must do is apply the sum of all ranks' gradients. So on the steps that are checked, hooks on the
parameters add up each rank's own gradient before any reduction, and the sum over ranks of that must be the sum of what
is applied.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from dlsvc.engine.exact import all_reduce
from dlsvc.errors import RanksDiverged

# Of the sum of magnitudes. Rounding in float32 leaves 1e-7 of it at most; a rank that is missing leaves more than
# 1 / sqrt(number of elements), which is above this for any model up to 1e11 parameters.
TOLERANCE = 3e-6


class Witness:
    """Sums of one phase's gradient over the parameters that its modules use."""

    def __init__(self, modules: Iterable[nn.Module], device: torch.device) -> None:
        self.sums = torch.zeros(2, dtype=torch.float64, device=device)  # signed, and of magnitudes
        self.seen: set[int] = set()
        self.tensor_hooks: list[Any] = []
        self.module_hooks = [
            part.register_forward_pre_hook(self._before_forward) for module in modules for part in module.modules()
        ]

    def _before_forward(self, module: nn.Module, inputs: Any) -> None:
        """Hook what is whole by now; a block that FSDP gathers later has its own turn. A leaf's hook sees the gradient
        of all its uses at once, so each leaf is hooked once an atom.
        """
        if not torch.is_grad_enabled():
            return
        for parameter in module.parameters():
            if parameter.requires_grad and id(parameter) not in self.seen and not isinstance(parameter, DTensor):
                self.seen.add(id(parameter))
                self.tensor_hooks.append(parameter.register_hook(self._count))

    def _count(self, gradient: Tensor) -> None:
        values = gradient.detach().double()
        self.sums += torch.stack([values.sum(), values.abs().sum()])

    def end_atom(self) -> None:
        """After an atom's backward pass: the next one hooks its parameters anew."""
        for hook in self.tensor_hooks:
            hook.remove()
        self.tensor_hooks, self.seen = [], set()

    def close(self) -> None:
        self.end_atom()
        for hook in self.module_hooks:
            hook.remove()

    def compare(self, applied: Sequence[Tensor], *, share: float, step: int) -> None:
        """`applied` are the pieces of the reduced gradient, over ranks once each; `share` is what a strategy that
        averages divides by. Raises RanksDiverged on every rank alike.
        """
        found = torch.stack([piece.detach().double().sum() for piece in applied] or [self.sums.new_zeros(())]).sum()
        signed, magnitudes, reduced = all_reduce(torch.cat([self.sums * share, found.reshape(1)])).tolist()
        if abs(signed - reduced) > TOLERANCE * magnitudes:
            raise RanksDiverged(
                f"at step {step} the gradient to be applied sums to {reduced:.9g}, and what the ranks computed to "
                f"{signed:.9g}: gradients were not reduced over all ranks, and the run is stopped"
            )
