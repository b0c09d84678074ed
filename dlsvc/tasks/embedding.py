"""Learned distances: samples of one class are drawn together, those of others pushed away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from dlsvc.errors import UsageError
from dlsvc.neighbors.distance import knn_accuracy
from dlsvc.registry import register_task
from dlsvc.tasks.base import Batch, Losses, Metrics, Modules, Prediction, Report, Task, dummy_samples, model_inputs


@register_task(
    "embedding",
    metrics=("knn_accuracy",),
    reads=("image|video|features|series|spectrogram|tokens", "label"),
    couples_samples=True,
)
class Embedding(Task):
    """Neighbourhood components analysis (Goldberger et al., 2004, section 2; the log form): each sample chooses a
    neighbour of the whole global batch by a softmax over similarities, and should choose one of its own class.

    Similarities are negative squared Euclidean distances, cosines or dot products, divided by `temperature`. Metric:
    knn_accuracy, the share of the split's samples whose class is that of most of their k nearest others.
    """

    def __init__(
        self, *, metric: Literal["euclidean", "cosine", "dot"] = "euclidean", temperature: float = 1.0, k: int = 5
    ) -> None:
        if temperature <= 0 or k < 1:
            raise UsageError(f"temperature must be above 0 and k at least 1, not {temperature} and {k}")
        self.metric, self.temperature, self.k = metric, temperature, k

    def features(self, modules: Modules, batch: Batch) -> dict[str, Tensor]:
        return {"vectors": self.vectors(modules, batch), "label": batch["label"].float()}

    def coupled_losses(self, features: dict[str, Tensor]) -> tuple[Losses, Report]:
        label = features["label"].detach()
        logits = self._similarities(features["vectors"])  # (N, N)
        itself = torch.eye(len(label), dtype=torch.bool, device=label.device)
        logits = logits.masked_fill(itself, float("-inf"))
        alike = (label[:, None] == label) & ~itself
        chosen = alike.any(1)  # a sample alone in its class has nobody to choose
        own = logits.masked_fill(~alike, float("-inf"))[chosen].logsumexp(1)
        loss = (logits[chosen].logsumexp(1) - own).sum() / chosen.sum().clamp(min=1)
        nearest = logits.detach().argmax(1)
        return {"nca": loss}, {"accuracy": (label[nearest] == label).float().mean()}

    def losses(self, modules: Modules, batch: Batch, phase: str) -> tuple[Losses, Report]:
        """The loss within this batch alone."""
        return self.coupled_losses(self.features(modules, batch))

    def measure(self, modules: Modules, batch: Batch, metrics: Metrics) -> None:
        vectors = self.vectors(modules, batch)
        metrics.collect(batch["id"], vectors=vectors, label=batch["label"][:, None])

    def compute(self, metrics: Metrics) -> dict[str, float]:
        vectors, label = metrics.rows("vectors"), metrics.rows("label")[:, 0]
        return {"knn_accuracy": knn_accuracy(vectors, label.astype("int64"), self.k, self.metric)}

    def vectors(self, modules: Modules, batch: Batch) -> Tensor:
        """What is trained, also of a model that `encode`s to something else on its way there."""
        found: Tensor = modules["model"](*model_inputs(batch))
        return found.float()

    def predict(self, modules: Modules, batch: Batch) -> list[Prediction]:
        return [{"embedding": vector} for vector in self.vectors(modules, batch).cpu().numpy()]

    def dummy_batch(self, num_samples: int, model_args: Mapping[str, Any]) -> Batch:
        features = torch.randn(num_samples, int(model_args["in_features"]))
        return {"features": features, "label": torch.arange(num_samples) % 2, **dummy_samples(num_samples)}

    def _similarities(self, vectors: Tensor) -> Tensor:
        if self.metric == "euclidean":
            squared = vectors.square().sum(1)
            return -(squared[:, None] + squared - 2 * vectors @ vectors.T).clamp(min=0) / self.temperature
        unit = F.normalize(vectors, dim=1) if self.metric == "cosine" else vectors
        return unit @ unit.T / self.temperature
