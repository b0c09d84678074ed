"""Segmentation's losses by hand, its metrics against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, jaccard_score
from torch import Tensor, nn

from dlsvc.errors import UsageError
from dlsvc.metrics.classification import confusion
from dlsvc.tasks.base import Metrics
from dlsvc.tasks.segmentation import Segmentation, centre, dice_loss


class Fixed(nn.Module):
    """Given logits, whatever the image."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, image: Tensor) -> Tensor:
        return self.logits


def test_metrics_are_those_of_all_pixels_at_once() -> None:
    torch.manual_seed(0)
    logits, mask = torch.randn(5, 4, 6, 6), torch.randint(0, 3, (5, 6, 6))
    logits[:, 3] = -100  # a class that neither occurs nor is guessed counts for nothing
    metrics, task = Metrics(), Segmentation()
    for part in (slice(0, 1), slice(1, 5)):
        batch = {"image": torch.zeros(1, 1, 6, 6), "mask": mask[part]}
        task.measure(task.modules(Fixed(logits[part])), batch, metrics)
    found = task.compute(metrics)
    truth, guess = mask.flatten().numpy(), logits.argmax(1).flatten().numpy()
    each = jaccard_score(truth, guess, average=None)
    assert found["miou"] == pytest.approx(each.mean())
    assert [found[f"iou_{label}"] for label in range(3)] == pytest.approx(each)
    assert found["pixel_accuracy"] == pytest.approx((truth == guess).mean())
    assert "iou_3" not in found
    table = confusion(mask, logits.argmax(1), 4)[:3, :3]
    assert np.array_equal(table.numpy(), confusion_matrix(truth, guess))


def test_dice_is_milletaris() -> None:
    logits = torch.tensor([[[[0.0, 2.0]], [[1.0, -1.0]]]])  # (1, 2, 1, 2)
    mask = torch.tensor([[[1, 0]]])
    p = logits.softmax(1)[0, :, 0]
    one = (2 * p[0, 1] + 1) / (p[0].square().sum() + 1 + 1)
    two = (2 * p[1, 0] + 1) / (p[1].square().sum() + 1 + 1)
    torch.testing.assert_close(dice_loss(logits, mask), (1 - (one + two) / 2)[None])
    right = torch.tensor([[[[-50.0, 50.0]], [[50.0, -50.0]]]])
    torch.testing.assert_close(dice_loss(right, mask), torch.zeros(1))


def test_a_smaller_map_lies_in_the_middle() -> None:
    whole = torch.arange(36).reshape(1, 6, 6)
    assert torch.equal(centre(whole, torch.zeros(1, 2, 2, 2)), torch.tensor([[[14, 15], [20, 21]]]))
    logits = torch.zeros(1, 2, 2, 2)
    logits[0, 1, 0, 0] = 9
    task = Segmentation()
    (found,) = task.predict(task.modules(Fixed(logits)), {"image": torch.zeros(1, 1, 6, 6)})
    assert found["mask"].shape == (6, 6)
    assert found["mask"][:3, :3].all()
    assert found["mask"].sum() == 9


def test_pictures_colour_all_but_the_background() -> None:
    logits = torch.zeros(1, 2, 2, 2)
    logits[0, 1, 0] = 9
    task = Segmentation()
    batch = {"image": torch.rand(1, 1, 2, 2), "mask": torch.tensor([[[1, 0], [1, 0]]])}
    grids = task.pictures(task.modules(Fixed(logits)), batch)
    changed = {name: (grids[name] != grids["images"]).any(-1)[0] for name in ("truth", "predictions")}
    assert np.array_equal(changed["truth"], [[True, False], [True, False]])
    assert np.array_equal(changed["predictions"], [[True, True], [False, False]])


@pytest.mark.parametrize("weights", [(0.0, 0.0), (-1.0, 1.0)])
def test_weights_that_make_no_loss_are_refused(weights: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="not both 0"):
        Segmentation(cross_entropy_weight=weights[0], dice_weight=weights[1])
