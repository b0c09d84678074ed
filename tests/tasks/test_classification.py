"""Classification against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dlsvc.errors import UsageError
from dlsvc.tasks.base import Metrics
from dlsvc.tasks.classification import Classification


class Echo(nn.Module):
    """Its input are the logits."""

    def forward(self, features: Tensor) -> Tensor:
        return features.flatten(1)


MODULES = {"model": Echo()}


def _measured(logits: Tensor, label: Tensor) -> dict[str, float]:
    task, metrics = Classification(), Metrics()
    task.measure(MODULES, {"features": logits, "label": label}, metrics)
    return task.compute(metrics)


def test_loss_is_cross_entropy() -> None:
    batch = {"features": torch.tensor([[0.0, 0.0], [0.0, math.log(3)]]), "label": torch.tensor([0, 1])}
    losses, report = Classification().losses(MODULES, batch, "main")
    assert losses["cross_entropy"].item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    assert report["accuracy"].item() == 1.0


def test_label_smoothing_mixes_in_the_uniform_distribution() -> None:
    batch = {"features": torch.tensor([[0.0, math.log(3)]]), "label": torch.tensor([1])}
    losses, _ = Classification(label_smoothing=0.2).losses(MODULES, batch, "main")
    assert losses["cross_entropy"].item() == pytest.approx(0.9 * math.log(4 / 3) + 0.1 * math.log(4))
    with pytest.raises(UsageError, match=r"in \[0, 1\), not 1"):
        Classification(label_smoothing=1.0)


def test_metrics_by_hand() -> None:
    guess, label = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 1, 0])
    found = _measured(nn.functional.one_hot(guess, 4).float(), label)
    assert found["accuracy"] == 0.5
    # Classes 0 and 1: 2 * 1 / (2 + 2) and 2 * 1 / (2 + 1); class 2 was only guessed; class 3 doesn't occur.
    assert found["macro_f1"] == pytest.approx((0.5 + 2 / 3 + 0) / 3)
    assert "top5" not in found


def test_top5_counts_labels_among_the_five_best() -> None:
    logits = torch.arange(6.0).repeat(2, 1)
    assert _measured(logits, torch.tensor([1, 0]))["top5"] == 0.5


def test_an_image_is_read_before_features_and_predictions_are_probabilities() -> None:
    image = torch.tensor([[[[0.0, math.log(3)]]]])
    rows = Classification().predict(MODULES, {"image": image, "features": torch.zeros(1, 2)})
    assert rows[0]["label_id"] == 1
    np.testing.assert_allclose(rows[0]["scores"], [0.25, 0.75], rtol=1e-6)


def test_sounds_and_texts_are_read_too() -> None:
    spectrogram = torch.tensor([[[[0.0, math.log(3)]]]])
    assert Classification().predict(MODULES, {"spectrogram": spectrogram})[0]["label_id"] == 1

    class Counts(nn.Module):
        def forward(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
            return (nn.functional.one_hot(tokens, 3) * attention_mask[..., None]).sum(1).float()

    batch = {"tokens": torch.tensor([[1, 2, 2]]), "attention_mask": torch.tensor([[True, False, False]])}
    assert Classification().predict({"model": Counts()}, batch)[0]["label_id"] == 1


def test_nothing_to_read_is_said() -> None:
    with pytest.raises(UsageError, match=r"reads image, video, features, series, spectrogram or tokens.*data\.audio"):
        Classification().predict(MODULES, {"label": torch.tensor([1])})


def test_pictures_are_the_most_confident_mistakes() -> None:
    image = torch.tensor([[5.0, 0.0], [1.0, 0.0], [0.0, 9.0]])[:, None, None]
    grids = Classification().pictures(MODULES, {"image": image, "label": torch.tensor([1, 1, 1])})
    np.testing.assert_array_equal(grids["confident_mistakes"], [[[[1], [0]]]] * 2)
    assert Classification().pictures(MODULES, {"image": image, "label": torch.tensor([0, 0, 1])}) == {}
