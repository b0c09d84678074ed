"""What the report shows of single samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.models.every import build

COLUMNS = {
    "llava": ("image", "asked", "said", "answer"),
    "blip": ("image", "written", "text"),
    "blip2": ("image", "written", "text"),
    "transformer": ("source", "written", "reference"),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_row_each(name: str) -> None:
    subject = build(name, num_samples=3)
    subject.model.eval()
    batch = {key: value for key, value in subject.batch.items() if key != "ends"}
    with torch.inference_mode():
        rows = subject.task.samples(subject.modules, batch)
    assert [tuple(row) for row in rows] == [COLUMNS[name]] * 3
    for row in rows:
        assert all(isinstance(value, str if key != "image" else np.ndarray) for key, value in row.items())
        assert name == "transformer" or row["image"].min() >= 0 <= row["image"].max() <= 1


def test_a_question_stands_beside_its_answer() -> None:
    subject = build("llava", num_samples=2)
    subject.model.eval()
    batch = subject.batch
    with torch.inference_mode():
        rows = subject.task.samples(subject.modules, batch)
    for row, tokens, answer in zip(rows, batch["tokens"], batch["answer_mask"], strict=True):
        first = int(answer.int().argmax())
        asked = [number for number in tokens[:first].tolist() if number >= 0]
        assert str(row["asked"]).split()[: len(asked)] == [str(number) for number in asked]
        assert str(row["answer"]).split() == [str(number) for number in tokens[answer].tolist()]


def test_a_first_question_without_an_image_is_not_shown() -> None:
    """The image comes in the second turn of the second conversation: the model couldn't read its first alone."""
    subject = build("llava", num_samples=3)
    subject.model.eval()
    batch = dict(subject.batch)
    batch["tokens"] = batch["tokens"].clone()
    batch["tokens"][1] = torch.tensor([1, 5, 6, 2, 7, -1, -1, -1, -1, 8, 9, 2])
    batch["attention_mask"] = batch["attention_mask"].index_fill(0, torch.tensor([1]), True)
    batch["answer_mask"] = batch["answer_mask"].index_copy(
        0, torch.tensor([1]), torch.isin(torch.arange(12), torch.tensor([2, 3, 10, 11]))[None]
    )
    others = {name: value[[0, 2]] for name, value in batch.items()}
    with torch.inference_mode():
        rows, alone = (subject.task.samples(subject.modules, some) for some in (batch, others))
        assert subject.task.samples(subject.modules, {name: value[1:2] for name, value in batch.items()}) == []
    assert [row["asked"] for row in rows] == [row["asked"] for row in alone]
    assert [row["said"] for row in rows] == [row["said"] for row in alone]


def test_texts_are_gone_on_from_their_beginnings() -> None:
    subject = build("gpt2", num_samples=2)
    subject.model.eval()
    model, task = subject.model, subject.task
    tokens = torch.randint(4, 32, (2, 20), generator=torch.Generator().manual_seed(0))
    tokens[:, 0], tokens[0, -1], tokens[1, 5:] = 1, 2, 0
    keep = tokens > 0
    model.max_seq_len = 8
    with torch.inference_mode():
        assert task.samples(subject.modules, {"tokens": tokens[1:], "attention_mask": keep[1:]}) == []
        (row,) = task.samples(subject.modules, {"tokens": tokens, "attention_mask": keep, "key": torch.arange(2)})
    assert str(row["beginning"]).split()[:8] == [str(number) for number in tokens[0, :8].tolist()]
