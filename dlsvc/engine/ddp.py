"""Distributed data parallel: every rank holds the whole model, gradients are averaged while backward runs."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dlsvc.engine.base import Engine, Phase


class DDPEngine(Engine):
    def _wrap(self, phase: Phase) -> nn.Module:
        module = self.plain[phase.module]
        self._totals: dict[str, list[Tensor]] = {}
        if self.exact:
            return module
        # Buffers are ours: each atom starts from the same ones and their means are set at the step's end.
        return DistributedDataParallel(module, forward_sync_buffers=False)

    def _reduce_round(self, phase: Phase) -> None:
        """DDP has averaged this atom's gradient into `.grad`; add it to the step's total, in the order that sharded
        strategies use.
        """
        gradients = [p.grad for p in self._parameters(phase) if p.grad is not None]
        totals = self._totals.get(phase.name)
        if totals is None:
            self._totals[phase.name] = [gradient.clone() for gradient in gradients]
        else:
            for total, gradient in zip(totals, gradients, strict=True):
                total.add_(gradient)
        for parameter in self._parameters(phase):
            parameter.grad = None

    def _settle(self, phase: Phase) -> None:
        for parameter, total in zip(self._parameters(phase), self._totals.pop(phase.name, []), strict=False):
            parameter.grad = total
