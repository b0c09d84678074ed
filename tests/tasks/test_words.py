from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dlsvc.tasks.base import Batch, dummy_samples
from dlsvc.tasks.cooccurrence import CoOccurrence
from dlsvc.tasks.word_embedding import SPECIAL, WordEmbedding
from tests.models.every import build


class Seen(nn.Module):
    """Keeps what it was asked."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.words = nn.Embedding(size, 2)
        self.asked: list[tuple[Tensor, ...]] = []

    def forward(self, inputs: Tensor, weights: Tensor, targets: Tensor) -> Tensor:
        self.asked.append((inputs, weights, targets))
        return torch.full(targets.shape, 0.5)


def _texts(rows: list[list[int]]) -> Batch:
    tokens = torch.tensor(rows)
    return {"tokens": tokens, "attention_mask": tokens > 0, **dummy_samples(len(rows))}


def test_skip_gram_pairs_every_word_with_those_around_it() -> None:
    task, model = WordEmbedding(window=1, negatives=3), Seen(30)
    losses, _ = task.losses(task.modules(model), _texts([[1, 10, 11, 12, 2, 0]]), "main")
    inputs, _, targets = model.asked[0]
    pairs = {(int(one), int(other)) for one, other in zip(inputs[:, 0], targets[:, 0], strict=True)}
    assert pairs == {(10, 11), (11, 10), (11, 12), (12, 11)}
    # A negative that is the true word doesn't count.
    other = (targets[:, 1:] != targets[:, :1]).sum(1).float()
    soft = torch.nn.functional.softplus(torch.tensor([-0.5, 0.5]))
    assert losses["pairs"] == pytest.approx(float((soft[0] + other * soft[1]).sum() / 6))  # by places


def test_a_drawn_true_word_is_no_miss() -> None:
    task, model = WordEmbedding(window=1, negatives=3), Seen(SPECIAL + 1)
    _, report = task.losses(task.modules(model), _texts([[1, SPECIAL, SPECIAL, 2]]), "main")
    assert float(report["pair_accuracy"]) == 1.0


def test_cbow_gives_a_word_the_mean_of_those_around_it() -> None:
    task, model = WordEmbedding(method="cbow", window=1, negatives=2), Seen(30)
    task.losses(task.modules(model), _texts([[1, 10, 11, 12, 2]]), "main")
    inputs, weights, targets = model.asked[0]
    assert targets[:, 0].tolist() == [10, 11, 12]
    around = [set(row[weight > 0].tolist()) for row, weight in zip(inputs, weights, strict=True)]
    assert around == [{11}, {10, 12}, {11}]
    assert weights.sum(1).tolist() == [1, 1, 1]


def test_windows_and_negatives_belong_to_the_sample() -> None:
    rows = torch.randint(4, 30, (6, 12), generator=torch.Generator().manual_seed(0)).tolist()
    task, model = WordEmbedding(window=4, subsample=0.01), Seen(30)
    modules, batch = task.modules(model), _texts(rows)
    task.losses(modules, batch, "main")
    task.losses(modules, {name: value[2:4] for name, value in batch.items()}, "main")
    whole, part = model.asked
    as_rows = [torch.cat([inputs, targets], dim=1).tolist() for inputs, _, targets in (whole, part)]
    assert any(as_rows[0][first : first + len(as_rows[1])] == as_rows[1] for first in range(len(as_rows[0])))


def test_negatives_come_by_frequency() -> None:
    task, model = WordEmbedding(negatives=20), Seen(1000)
    task.modules(model)
    drawn = task._negatives(np.arange(400, dtype=np.uint64), 10, task.frequency)
    assert drawn.min() == 4
    expected = task.frequency[4] ** 0.75 / (task.frequency**0.75).sum()
    assert (drawn == 4).mean() == pytest.approx(expected, rel=0.05)


def test_glove_weighs_by_the_count() -> None:
    subject = build("glove", num_samples=3)
    batch = dict(subject.batch)
    batch["features"] = torch.tensor([[10.0], [100.0], [400.0]])
    task = CoOccurrence(most=100, power=0.75)
    errors, weights = task._errors(subject.modules, batch)
    assert weights.tolist() == pytest.approx([0.1**0.75, 1, 1])
    logs = batch["features"][:, 0].log()
    assert errors.sqrt().tolist() == pytest.approx(logs.tolist(), rel=0.02)  # all but nothing is foretold at first
    losses, _ = task.losses(subject.modules, batch, "main")
    assert losses["weighted"].item() == pytest.approx(float((errors * weights).mean().detach()))
