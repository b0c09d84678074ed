"""The two phases of a GAN."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dlsvc.errors import UsageError
from dlsvc.store.bundle import build_model
from dlsvc.tasks.adversarial import Adversarial
from dlsvc.tasks.base import Metrics, sample_normal, sample_uniform
from tests.models.every import build, only


def test_an_undecided_discriminator_loses_log_2_on_either_side() -> None:
    subject = build("gan")
    torch.nn.init.zeros_(subject.model.get_parameter("discriminator.layers.5.weight"))
    losses, report = subject.task.losses(subject.modules, subject.batch, "discriminator")
    assert {name: value.item() for name, value in losses.items()} == pytest.approx(
        {"real_loss": math.log(2), "fake_loss": math.log(2)}
    )
    assert (report["d_real"].item(), report["d_fake"].item()) == (0.5, 0.5)
    losses, _ = subject.task.losses(subject.modules, subject.batch, "generator")
    assert losses["generator_loss"].item() == pytest.approx(math.log(2))


def test_discriminator_loss_is_the_binary_cross_entropy() -> None:
    subject = build("gan")
    losses, _ = subject.task.losses(subject.modules, subject.batch, "discriminator")
    noise = sample_normal(subject.batch, "latent/discriminator", (4,))
    with torch.no_grad():
        fake = subject.modules["generator"](noise)
    logits = torch.cat([subject.modules["discriminator"](image) for image in (subject.batch["image"], fake)])
    target = torch.cat([torch.ones(8), torch.zeros(8)])
    expected = 2 * F.binary_cross_entropy_with_logits(logits, target)
    torch.testing.assert_close(sum(losses.values()), expected)


def test_phases_draw_different_noise_of_the_same_samples() -> None:
    subject = build("gan")
    one, two = (sample_normal(subject.batch, f"latent/{phase}", (4,)) for phase in subject.task.phases)
    assert not torch.equal(one, two)


def test_discriminator_learns_to_tell_real_from_fake() -> None:
    subject = build("gan")
    optimizer = torch.optim.Adam(subject.modules["discriminator"].parameters(), 1e-2)
    for _ in range(60):
        with only(subject, "discriminator"):
            subject.losses("discriminator").backward()
        optimizer.step()
        optimizer.zero_grad()
    _, report = subject.task.losses(subject.modules, subject.batch, "discriminator")
    assert report["d_real"].item() > 0.9
    assert report["d_fake"].item() < 0.1


@torch.inference_mode()
def test_samples_follow_their_seeds_one_by_one() -> None:
    subject = build("gan")
    subject.model.eval()
    assert isinstance(subject.task, Adversarial)
    rows = subject.task.predict(subject.modules, {"key": torch.tensor([5, 6, 5])})
    assert rows[0]["image"].shape == (16, 16, 3)
    np.testing.assert_array_equal(rows[0]["image"], rows[2]["image"])
    assert not np.array_equal(rows[0]["image"], rows[1]["image"])
    alone = subject.task.generate(subject.modules, torch.tensor([6]))
    np.testing.assert_allclose(alone[0], rows[1]["image"], atol=1e-6)


@torch.inference_mode()
def test_metrics_are_means_over_the_split() -> None:
    subject = build("gan")
    subject.model.eval()
    metrics = Metrics()
    subject.task.measure(subject.modules, subject.batch, metrics)
    found = subject.task.compute(metrics)
    assert set(found) == {"d_real", "d_fake", "discriminator_loss", "generator_loss"}
    assert 0 < found["d_real"] < 1


@pytest.mark.parametrize("name", ["gan, hinge", "gan, wasserstein"])
def test_games_have_their_published_losses(name: str) -> None:
    subject = build(name)
    subject.task.gradient_penalty = 0
    losses, _ = subject.task.losses(subject.modules, subject.batch, "discriminator")
    noise = {phase: sample_normal(subject.batch, f"latent/{phase}", (4,)) for phase in subject.task.phases}
    subject = build(name)
    with torch.no_grad():
        judge, maker = subject.modules["discriminator"], subject.modules["generator"]
        real, fake = judge(subject.batch["image"]), judge(maker(noise["discriminator"]))
    expected = {
        "gan, hinge": torch.clamp(1 - real, min=0).mean() + torch.clamp(1 + fake, min=0).mean(),
        "gan, wasserstein": fake.mean() - real.mean(),
    }
    torch.testing.assert_close(sum(losses.values()), expected[name])


def test_gradient_penalty_is_that_of_a_second_derivative() -> None:
    """Gulrajani et al. (2017) differentiate the gradient's norm; the slope along the gradient must agree."""
    subject = build("gan, wasserstein")
    judge, image = subject.modules["discriminator"], subject.batch["image"]
    noise = sample_normal(subject.batch, "latent/discriminator", (4,))
    with torch.no_grad():
        fake = subject.modules["generator"](noise)
    share = sample_uniform(subject.batch, "penalty").float()[:, None, None, None]
    between = (image + share * (fake - image)).requires_grad_()
    [gradient] = torch.autograd.grad(judge(between).sum(), between, create_graph=True)
    expected = 10 * (gradient.flatten(1).norm(dim=1) - 1).square().mean()
    weights = [parameter for name, parameter in judge.named_parameters() if name.endswith("weight")]
    wanted = torch.autograd.grad(expected, weights)
    losses, _ = subject.task.losses(subject.modules, subject.batch, "discriminator")
    torch.testing.assert_close(losses["penalty_loss"], expected, rtol=1e-5, atol=1e-6)
    found = torch.autograd.grad(losses["penalty_loss"], weights)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("norm", "args", "refusal"),
    [
        ("batch", {"gradient_penalty": 10.0}, "mixes them; give the model norm: none"),
        (
            "batch",
            {"loss": "wasserstein"},
            "give gradient_penalty: 10 and the model norm: none, or the model norm: spec",
        ),
        ("none", {"loss": "wasserstein"}, "needs a critic of bounded slope"),
    ],
)
def test_a_game_refuses_a_norm_that_ruins_it(norm: str, args: dict[str, Any], refusal: str) -> None:
    model = build_model({"name": "gan", "args": {"image_size": 8, "base_channels": 2, "latent_dim": 2, "norm": norm}})
    with pytest.raises(UsageError, match=refusal):
        Adversarial(**args).modules(model)


def test_a_penalty_of_less_than_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="gradient_penalty must be at least 0, not -1"):
        Adversarial(gradient_penalty=-1)


def test_gradient_penalty_refuses_batch_norm() -> None:
    subject = build("gan")
    with pytest.raises(UsageError, match="give norm: none"):
        subject.modules["discriminator"](subject.batch["image"], steepness=True)
