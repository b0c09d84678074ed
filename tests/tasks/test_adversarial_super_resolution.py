"""SRGAN's losses, and that its eye is never trained."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from dlsvc.tasks.base import Metrics
from dlsvc.tasks.super_resolution import reduced
from tests.models.every import build, only


def test_losses_are_weighed_and_the_papers() -> None:
    subject = build("srgan")
    task, image = subject.task, subject.batch["image"]
    found, _ = task.losses(subject.modules, subject.batch, "generator")
    subject = build("srgan")
    made = subject.modules["generator"](reduced(image, 2))
    seen = F.mse_loss(subject.modules["eye"](made), subject.modules["eye"](image))
    logit = subject.modules["discriminator"](made)
    expected = {
        "pixel_loss": F.mse_loss(made, image),
        "perceptual_loss": seen,
        "adversarial_loss": 1e-3 * F.binary_cross_entropy_with_logits(logit, torch.ones_like(logit)),
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_the_eye_stays_as_it_is_and_lets_gradients_through() -> None:
    subject = build("srgan")
    before = {name: value.clone() for name, value in subject.modules["eye"].state_dict().items()}
    with only(subject, "generator") as trained:
        losses, _ = subject.task.losses(subject.modules, subject.batch, "generator")
        losses["perceptual_loss"].backward()
    assert all(parameter.grad is not None for parameter in trained.parameters())
    assert all(parameter.grad is None for parameter in subject.modules["eye"].parameters())
    assert all(torch.equal(value, before[name]) for name, value in subject.modules["eye"].state_dict().items())


@torch.inference_mode()
def test_equal_images_have_no_distance() -> None:
    subject = build("srgan")
    subject.model.eval()
    flat = torch.full_like(subject.batch["image"], 0.5)
    metrics = Metrics()
    subject.task.measure(subject.modules, {**subject.batch, "image": flat}, metrics)
    found = subject.task.compute(metrics)
    # A flat image comes through a reduction and an enlargement to within a level of 255.
    assert found["perceptual_distance_bicubic"] == pytest.approx(0, abs=1e-3)
    assert found["perceptual_distance"] > found["perceptual_distance_bicubic"]
