"""Co-occurrence: vectors of words from how often they stand near each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dlsvc.errors import UsageError
from dlsvc.registry import register_task
from dlsvc.tasks.base import Batch, Losses, Metrics, Modules, Prediction, Report, Task, dummy_samples
from dlsvc.tasks.word_embedding import SPECIAL

if TYPE_CHECKING:
    from dlsvc.data.preprocess import Preprocess

# Neither a logarithm nor a mean is of less.
_LEAST = 1e-6


@register_task(
    "co-occurrence",
    metrics=("log_count_rmse", "weighted_loss"),
    reads=("tokens", "attention_mask", "features"),
    tokenizer="word",
)
class CoOccurrence(Task):
    """Weighted least squares (Pennington et al. 2014, equation 8): f(x) (w.c + b + b' - log x)^2, f(x) being min(1, x /
    most)^power, over pairs of words and their counts x, which `dlsvc data pairs` writes: the text has both words, the
    one feature is the count as it is.

    Metrics: log_count_rmse, the root of the mean squared error of log x with the weights f; weighted_loss.
    """

    def __init__(self, *, most: float = 100.0, power: float = 0.75) -> None:
        if most <= 0 or power < 0:
            raise UsageError(f"most must be above 0 and power at least 0, not {most} and {power}")
        self.most, self.power = most, power

    def misfits(self, data: Preprocess, model_args: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        yield from super().misfits(data, model_args)
        if data.features is not None and (any(data.features.mean) or set(data.features.std) != {1.0}):
            yield (
                "data.standardise",
                "is true, which makes counts negative; give false",
            )

    def losses(self, modules: Modules, batch: Batch, phase: str) -> tuple[Losses, Report]:
        errors, weights = self._errors(modules, batch)
        rmse = ((errors * weights).sum() / weights.sum().clamp(min=_LEAST)).sqrt()
        return {"weighted": (errors * weights).mean()}, {"log_count_rmse": rmse.detach()}

    def measure(self, modules: Modules, batch: Batch, metrics: Metrics) -> None:
        errors, weights = (part.double() for part in self._errors(modules, batch))
        metrics.add(error=(errors * weights).sum(), weight=weights.sum(), count=len(errors))

    def compute(self, metrics: Metrics) -> dict[str, float]:
        sums = metrics.sums
        return {
            "log_count_rmse": math.sqrt(float(sums["error"]) / max(float(sums["weight"]), _LEAST)),
            "weighted_loss": float(sums["error"] / sums["count"]),
        }

    def predict(self, modules: Modules, batch: Batch) -> list[Prediction]:
        """`embedding`: the mean of a text's words, of one word its vector."""
        return [{"embedding": vector} for vector in self.vectors(modules, batch).cpu().numpy()]

    def vectors(self, modules: Modules, batch: Batch) -> Tensor:
        model: Any = modules["model"]
        found: Tensor = model.encode(batch["tokens"], batch["attention_mask"])
        return found.float()

    def dummy_batch(self, num_samples: int, model_args: Mapping[str, Any]) -> Batch:
        words = torch.randint(4, int(model_args["vocab_size"]), (num_samples, 2))
        ends = torch.tensor([1, 2]).expand(num_samples, -1)
        tokens = torch.cat([ends[:, :1], words, ends[:, 1:]], dim=1)
        counts = torch.rand(num_samples, 1) * 50 + 1
        keep = torch.ones_like(tokens, dtype=torch.bool)
        return {"tokens": tokens, "attention_mask": keep, "features": counts, **dummy_samples(num_samples)}

    def _errors(self, modules: Modules, batch: Batch) -> tuple[Tensor, Tensor]:
        """The squared error of each pair's log count, and its weight, (B,) each: none of what isn't two known words."""
        if batch["tokens"].shape[1] < 4:
            raise UsageError("co-occurrence reads two words between a begin and an end; set data.text.max_seq_len to 4")
        count = batch["features"][:, 0].clamp(min=_LEAST)
        known = (batch["tokens"][:, 1:3] >= SPECIAL).all(1)
        predicted = modules["model"](batch["tokens"][:, 1], batch["tokens"][:, 2]).float()
        return (predicted - count.log()).square(), (count / self.most).clamp(max=1.0) ** self.power * known
