from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from dlsvc.errors import UsageError
from dlsvc.models.llava import IMAGE_ID, LLaVA
from dlsvc.tasks.base import Metrics, dummy_samples
from dlsvc.tasks.conversation import Conversation
from tests.models.every import build

TOKENS = torch.tensor([[1, IMAGE_ID, 5, 6, 2], [1, IMAGE_ID, 7, 4, 2]])
ANSWER = torch.tensor([[False, False, False, True, True]]).expand(2, -1)


class Knows(nn.Module):
    """Always says 6, then ends."""

    def forward(self, patches: Tensor | None, tokens: Tensor, keep: Tensor, **options: object) -> Tensor:
        wanted = torch.where(torch.arange(tokens.shape[1]) < 3, 6, 2).expand(len(tokens), -1)
        return nn.functional.one_hot(wanted, 8).float() * 9


def test_only_answers_count() -> None:
    task, metrics = Conversation(), Metrics()
    batch = {
        "image": torch.zeros(2, 3, 4, 4),
        "tokens": TOKENS,
        "attention_mask": TOKENS != 0,
        "answer_mask": ANSWER,
        **dummy_samples(2),
    }
    modules = {"vision_encoder": nn.Identity(), "assistant": Knows()}
    task.measure(modules, batch, metrics)
    found = task.compute(metrics)
    assert found["answer_accuracy"] == 0.5
    assert found["token_accuracy"] == 0.75
    sure = math.log(math.exp(9) + 7)
    assert math.log(found["perplexity"]) == pytest.approx((3 * (sure - 9) + sure) / 4, rel=1e-5)


def test_patches_stand_where_the_text_says() -> None:
    """A text's meaning depends on its image, and on where that stands."""
    subject = build("llava", num_samples=2)
    model, batch = subject.model, subject.batch
    assert isinstance(model, LLaVA)
    patches = model.vision_encoder(batch["image"])
    first = model.assistant(patches, batch["tokens"], batch["attention_mask"])
    other = model.assistant(patches.flip(0), batch["tokens"], batch["attention_mask"])
    assert torch.equal(first[:, 0], other[:, 0])  # before the image
    assert not torch.allclose(first[:, 2], other[:, 2])
    with pytest.raises(UsageError, match="texts have 3 places for patches, and an image has 4"):
        model.assistant(patches, batch["tokens"].clone().index_fill_(1, torch.tensor([1]), 5), batch["attention_mask"])


def test_what_is_written_is_what_the_whole_text_would_give() -> None:
    """With memories token by token, as without."""
    subject = build("llava", num_samples=3)
    subject.model.eval()
    task, batch = subject.task, dict(subject.batch)
    asked = {name: batch[name][:, :8] for name in ("tokens", "attention_mask")}
    asked["tokens"] = asked["tokens"].clone()
    asked["tokens"][:, 7], asked["attention_mask"] = 2, torch.ones(3, 8, dtype=torch.bool)
    with torch.inference_mode():
        rows = task.predict(subject.modules, {**batch, **asked})
        assistant, patches = subject.modules["assistant"], subject.modules["vision_encoder"](batch["image"])
        text = asked["tokens"][:, :7]
        for place in range(12 - 7):  # as many as the model has room for
            logits = assistant(patches, text, torch.ones_like(text, dtype=torch.bool))[:, -1]
            chosen = logits.argmax(1)
            assert chosen.tolist() == [int(row["written"][place]) for row in rows]
            text = torch.cat([text, chosen[:, None]], dim=1)
            if (chosen == 2).any():
                break
