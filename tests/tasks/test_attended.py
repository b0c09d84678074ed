"""Pictures of attention, and the weights that they show."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dlsvc.nn.attention import MultiHeadAttention, rollout, watched
from dlsvc.tasks.attended import Alignment, alignment_pictures, patch_attention
from tests.models.every import build


@pytest.mark.parametrize(("is_causal", "padded"), [(False, False), (True, False), (True, True)])
def test_watching_changes_nothing_and_shows_what_was_weighed(is_causal: bool, padded: bool) -> None:
    torch.manual_seed(0)
    attention = MultiHeadAttention(d_model=16, num_heads=2).eval()
    x = torch.randn(2, 5, 16)
    keep = torch.tensor([[True] * 5, [True] * 3 + [False] * 2]) if padded else None
    before = attention(x, is_causal=is_causal, keep=keep)
    with watched(attention) as seen:
        torch.testing.assert_close(attention(x, is_causal=is_causal, keep=keep), before)
    (weights,) = seen[""]
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 5))
    value = attention.value(x).unflatten(2, (2, 8)).transpose(1, 2)
    torch.testing.assert_close(attention.output((weights @ value).transpose(1, 2).flatten(2)), before)
    assert not is_causal or not weights.triu(1).any()
    assert not padded or not weights[1, :, :3, 3:].any()
    attention(x)
    assert len(seen[""]) == 1  # nobody watches any more


def test_rollout_of_attention_to_oneself_is_oneself() -> None:
    eye = torch.eye(3).expand(2, 4, 3, 3)
    torch.testing.assert_close(rollout([eye, eye]), torch.eye(3).expand(2, 3, 3))
    first = torch.tensor([[1.0, 0, 0], [1, 0, 0], [1, 0, 0]]).expand(1, 1, 3, 3)
    torch.testing.assert_close(rollout([first])[0, 2], torch.tensor([0.5, 0, 0.5]))
    torch.testing.assert_close(rollout([first, first])[0, 2], torch.tensor([0.75, 0, 0.25]))


def test_where_a_class_token_looks_is_bright() -> None:
    subject = build("vit", num_samples=3)
    model, image = subject.model.eval(), subject.batch["image"]
    side = round((model.get_parameter("positions").shape[0] - 1) ** 0.5)

    class Spotlight(torch.nn.Module):
        """Scores of the last patch alone are high."""

        def logits(self, query: Tensor, key: Tensor) -> Tensor:
            last = F.one_hot(torch.tensor(key.shape[2] - 1), key.shape[2])
            return 50.0 * last.expand(*query.shape[:3], -1)

    for block in model.get_submodule("blocks").children():
        block.attention.similarity = Spotlight()  # type: ignore[union-attr]
    with torch.inference_mode():
        seen = patch_attention(model, image, torch.ones_like(image))
    assert seen.shape == (3, 3, *image.shape[2:])
    patch = image.shape[-1] // side // 2
    bright, dark = seen[..., -patch:, -patch:], seen[..., :patch, :patch]
    assert (bright[:, 0].mean(), bright[:, 2].mean()) == pytest.approx((1, 0.6), abs=0.02)  # red over white
    assert (dark[:, 0].mean(), dark[:, 2].mean()) == pytest.approx((0.6, 1), abs=0.02)  # and blue


def test_a_model_without_patches_has_no_such_picture() -> None:
    subject = build("lenet5", num_samples=2)
    assert patch_attention(subject.model, subject.batch["image"], subject.batch["image"]).shape[:2] == (0, 3)


def test_an_alignment_is_dark_where_much_went() -> None:
    weights = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    (picture,) = alignment_pictures([Alignment(weights, ["the", "house"], ["la", "maison", "!"])])
    assert picture.shape == (480, 480, 3)
    blue = (picture[..., 2] > 0.3) & (picture[..., 0] < 0.2)  # the darkest of the colours
    rows, columns = np.nonzero(blue)
    left = columns < (columns.min() + columns.max()) / 2
    assert rows[left].max() < rows[~left].min() + 10  # the first row, then both others
    assert (~left).sum() > 1.8 * left.sum()


def test_short_texts_are_aligned() -> None:
    subject = build("transformer", num_samples=6)
    subject.model.eval()
    with torch.inference_mode():
        found = subject.task.pictures(subject.modules, subject.batch)
    assert found["alignment"].shape == (4, 480, 480, 3)
    assert found["alignment"].std() > 0.01
    long = {**subject.batch, "attention_mask": torch.ones(6, 40, dtype=torch.bool)}
    assert subject.task.pictures(subject.modules, long) == {}
