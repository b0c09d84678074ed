"""What a run says of itself while it trains: exact sums over atoms and ranks, one small reduction a report."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from dlsvc.engine.exact import FIXED_POINT, all_reduce, to_fixed
from dlsvc.errors import NonFiniteLoss


class Meter:
    """Sums since the last record. Scalars are added as fixed point, so a log has the same digits for any number of
    workers.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._clear()

    def _clear(self) -> None:
        self.values: dict[str, Tensor] = {}
        self.kinds: dict[str, bool] = {}
        self.non_finite = torch.zeros((), dtype=torch.int64, device=self.device)
        self.samples = 0
        self.fingerprint = 0
        self.steps = 0
        self.waited_s = 0.0
        self.since = time.perf_counter()

    def add(self, losses: dict[str, Tensor], report: dict[str, Tensor], weight: float) -> None:
        """One atom's scalars, weighted by its share of the step."""
        for name, value in {**losses, **report}.items():
            scalar = value.detach().double() * weight
            finite = torch.isfinite(scalar)
            self.non_finite += (~finite).to(torch.int64)
            fixed = to_fixed(torch.where(finite, scalar, 0.0))
            self.values[name] = self.values[name] + fixed if name in self.values else fixed
            self.kinds[name] = name in losses

    def count(self, samples: int, fingerprint: int) -> None:
        self.samples += samples
        self.fingerprint = _wrap(self.fingerprint + fingerprint)

    def flush(self, step: int, *, cancelled: bool) -> tuple[dict[str, Any], bool]:
        """The record of the steps since the last one, equal on all ranks but for times, and whether anybody asked to
        stop.
        """
        names = sorted(self.values)
        numbers = torch.tensor([self.samples, self.fingerprint, int(cancelled)], dtype=torch.int64, device=self.device)
        vector = torch.cat([numbers, self.non_finite.reshape(1), *(self.values[name].reshape(1) for name in names)])
        all_reduce(vector)
        samples, fingerprint, cancels, bad, *fixed = vector.tolist()
        if bad:
            raise NonFiniteLoss(
                f"the loss is not finite between step {step - self.steps} and {step}; "
                "try a lower optim.lr, or optim.max_grad_norm"
            )
        means = {name: value / FIXED_POINT / self.steps for name, value in zip(names, fixed, strict=True)}
        elapsed = time.perf_counter() - self.since
        record = {
            "step": step,
            "first_step": step - self.steps,
            "samples": samples,
            "fingerprint": fingerprint,
            **means,
        }
        record["loss"] = sum(value for name, value in means.items() if self.kinds[name])
        record |= {"seconds_per_step": elapsed / self.steps, "samples_per_s": samples / elapsed}
        record |= {"data_wait": self.waited_s / elapsed, "time": time.time()}
        self._clear()
        return record, bool(cancels)


def _wrap(value: int) -> int:
    """As a signed 64-bit integer."""
    return (value + 2**63) % 2**64 - 2**63
