"""The objective of diffusion models, and the samples that it makes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dlsvc.diffusion import kept, target
from dlsvc.errors import UsageError
from dlsvc.tasks.base import Metrics
from dlsvc.tasks.denoising import Denoising
from tests.models.every import build


class Known(nn.Module):
    """The best network for images that are all of one value a class; remembers what it was asked."""

    shape, num_classes = (1, 4, 4), 2

    def __init__(self, task: Denoising, prediction: str) -> None:
        super().__init__()
        self.task, self.prediction = task, prediction
        self.labels: list[Tensor | None] = []
        self.steps: list[Tensor] = []

    def forward(self, state: Tensor, step: Tensor, label: Tensor | None = None) -> Tensor:
        self.labels.append(label)
        self.steps.append(step)
        assert label is not None
        value = torch.tensor([-0.6, 0.6, 0.0])[label][:, None, None, None]
        share = self.task.shares[step]
        root, rest = (part.float()[:, None, None, None] for part in (share.sqrt(), (1 - share).sqrt()))
        found: Tensor = target(value.expand_as(state), (state - root * value) / rest, share, self.prediction)  # type: ignore[arg-type]
        return found


def batch(count: int) -> dict[str, Tensor]:
    label = torch.arange(count) % 2
    image = torch.tensor([-0.6, 0.6])[label][:, None, None, None].expand(count, 1, 4, 4).contiguous()
    key = torch.from_numpy(np.random.default_rng(0).integers(0, 2**62, count))
    return {"image": image, "label": label, "id": torch.arange(count), "key": key}


@pytest.mark.parametrize("prediction", ["noise", "sample", "velocity"])
def test_a_network_that_knows_has_no_loss(prediction: str) -> None:
    task = Denoising(prediction=prediction, drop_label=0.0)  # type: ignore[arg-type]
    modules = task.modules(Known(task, prediction))
    (loss,) = task.losses(modules, batch(64), "main")[0].values()
    assert loss.item() < 1e-6
    metrics = Metrics()
    task.measure(modules, batch(64), metrics)
    assert task.compute(metrics)["denoising_loss"] < 1e-6


def test_times_are_uniform_and_labels_dropped_to_their_share() -> None:
    task = Denoising(drop_label=0.2)
    model = Known(task, "noise")
    task.losses(task.modules(model), batch(4000), "main")
    steps, labels = model.steps[0].double(), model.labels[0]
    assert labels is not None
    assert (steps.min().item(), steps.max().item()) == (pytest.approx(0, abs=5), pytest.approx(999, abs=5))
    assert steps.mean().item() == pytest.approx(500, abs=15)
    assert (labels == 2).double().mean().item() == pytest.approx(0.2, abs=0.02)
    assert torch.equal(labels[labels < 2], batch(4000)["label"][labels < 2])


@pytest.mark.parametrize("solver", ["ddpm", "ddim", "heun", "dpmpp-2m"])
def test_samples_are_of_their_class_and_of_their_key(solver: str) -> None:
    task = Denoising(solver=solver, sample_steps=20, drop_label=1.0)  # type: ignore[arg-type]
    modules, asked = task.modules(Known(task, "noise")), batch(6)
    rows = task.predict(modules, asked)
    for row, image in zip(rows, asked["image"], strict=True):
        np.testing.assert_allclose(row["image"][..., 0], image[0] / 2 + 0.5, atol=0.02)
    alone = task.predict(modules, {name: value[2:3] for name, value in asked.items()})
    np.testing.assert_array_equal(alone[0]["image"], rows[2]["image"])


def test_guidance_goes_beyond_the_class() -> None:
    """Without a class the network says 0, with one 0.6: half as much again is 0.9."""
    task = Denoising(guidance=1.5, sample_steps=30)
    modules = task.modules(Known(task, "noise"))
    rows = task.predict(modules, batch(2))
    np.testing.assert_allclose([row["image"].mean() * 2 - 1 for row in rows], [-0.9, 0.9], atol=0.03)


def test_a_model_without_classes_is_asked_without() -> None:
    subject = build("ddpm")
    few = {name: value for name, value in subject.batch.items() if name != "label"}
    assert subject.task.predict(subject.modules, few)[0]["image"].shape == (8, 8, 3)


def test_pictures_show_how_a_sample_came_about() -> None:
    subject = build("ddpm")
    with torch.no_grad():
        found = subject.task.pictures(subject.modules, subject.batch)
    assert {name: len(images) for name, images in found.items()} == {"originals": 8, "samples": 8, "denoising": 10}


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(UsageError, match="no noise schedule is called"):
        Denoising(schedule="quadratic")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="1 to 1000 steps, not 2000"):
        Denoising(sample_steps=2000)
    assert len(kept("linear", 50)) == 50
