"""The loss of neighbourhood components analysis, written out; and what the metric counts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from dlsvc.errors import UsageError
from dlsvc.store.bundle import build_model
from dlsvc.tasks.base import Metrics
from dlsvc.tasks.embedding import Embedding


def loss_of(task: Embedding, vectors: torch.Tensor, label: list[int]) -> float:
    features = {"vectors": vectors, "label": torch.tensor(label).float()}
    return float(task.coupled_losses(features)[0]["nca"])


def test_loss_is_the_papers() -> None:
    vectors = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [3.0, 1.0]])
    label = [0, 0, 1, 1]
    expected = 0.0
    for i in range(4):
        weights = {j: math.exp(-float((vectors[i] - vectors[j]).square().sum())) for j in range(4) if j != i}
        expected -= math.log(sum(w for j, w in weights.items() if label[j] == label[i]) / sum(weights.values())) / 4
    assert loss_of(Embedding(), vectors, label) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_other_similarities(metric: str) -> None:
    vectors = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    one, two = (1.0, 1.0) if metric == "cosine" else (2.0, 3.0)
    expected = (2 * math.log1p(2 * math.exp(-one / 0.5)) + 2 * math.log1p(2 * math.exp(-two / 0.5))) / 4
    found = loss_of(Embedding(metric=metric, temperature=0.5), vectors, [0, 0, 1, 1])  # type: ignore[arg-type]
    assert found == pytest.approx(expected, rel=1e-5)


def test_sample_alone_in_its_class_counts_nothing() -> None:
    vectors = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    task = Embedding()
    losses, _ = task.coupled_losses({"vectors": vectors, "label": torch.arange(5).float()})
    assert losses["nca"].detach() == 0
    losses["nca"].backward()
    assert vectors.grad is not None
    assert torch.equal(vectors.grad, torch.zeros_like(vectors))


@torch.inference_mode()
def test_what_is_trained_is_what_is_measured_and_given() -> None:
    """Also of a model whose `encode` is of the layer before its last."""
    model = build_model({"name": "mlp", "args": {"in_features": 4, "hidden_dims": [16], "num_classes": 3}})
    task, batch = Embedding(), {"features": torch.randn(5, 4), "label": torch.arange(5), "id": torch.arange(5)}
    modules = task.modules(model)
    vectors = model(batch["features"])
    assert torch.equal(task.features(modules, batch)["vectors"], vectors)
    assert torch.equal(task.vectors(modules, batch), vectors)
    assert [row["embedding"].shape for row in task.predict(modules, batch)] == [(3,)] * 5


def test_knn_accuracy_over_uneven_shards() -> None:
    task, vectors = Embedding(k=1), torch.tensor([[0.0], [0.1], [5.0], [5.1], [0.06]])
    label = torch.tensor([0, 0, 1, 1, 1])
    metrics = Metrics()
    for part in ([4, 1], [0, 2, 3]):
        mine = Metrics()
        batch = {"features": vectors[part], "label": label[part], "id": torch.tensor(part)}
        task.measure({"model": _Itself()}, batch, mine)
        metrics.merge(mine)
    assert task.compute(metrics) == {"knn_accuracy": pytest.approx(2 / 5)}


class _Itself(nn.Module):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


@pytest.mark.parametrize("asked", [{"temperature": 0.0}, {"k": 0}])
def test_impossible_arguments(asked: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="above 0 and k at least 1"):
        Embedding(**asked)  # type: ignore[arg-type]
