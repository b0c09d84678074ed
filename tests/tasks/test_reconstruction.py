"""The evidence lower bound against torch's own distributions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from dlsvc.errors import UsageError
from dlsvc.tasks import reconstruction
from dlsvc.tasks.base import Metrics
from dlsvc.tasks.reconstruction import Reconstruction
from tests.models.every import build


class Fixed(nn.Module):
    """Given logits, whatever the image; remembers its noise."""

    latent_shape = (2,)

    def __init__(self, logits: Tensor, mean: Tensor, logvar: Tensor) -> None:
        super().__init__()
        self.outputs = {"reconstruction": logits, "mean": mean, "logvar": logvar, "latent": mean + 1}
        self.noises: list[Tensor] = []

    def forward(self, image: Tensor | None, noise: Tensor) -> dict[str, Tensor]:
        self.noises.append(noise)
        return self.outputs


def _fixed() -> tuple[Fixed, dict[str, Tensor]]:
    torch.manual_seed(0)
    model = Fixed(torch.randn(3, 1, 2, 2), torch.randn(3, 2), torch.randn(3, 2))
    keys = torch.tensor([7, 8, 9])
    return model, {"image": torch.rand(3, 1, 2, 2).round(), "id": keys, "key": keys}


def test_divergence_is_torchs() -> None:
    mean, logvar = torch.randn(4, 3), torch.randn(4, 3)
    expected = kl_divergence(Normal(mean, (0.5 * logvar).exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(reconstruction.kl_divergence(mean, logvar), expected)


def test_losses_sum_to_the_negative_bound() -> None:
    model, batch = _fixed()
    task = Reconstruction(beta=1.0)
    losses, report = task.losses(task.modules(model), batch, "main")
    nll = -Bernoulli(logits=model.outputs["reconstruction"]).log_prob(batch["image"]).flatten(1).sum(1).mean()
    torch.testing.assert_close(losses["reconstruction_loss"], nll)
    torch.testing.assert_close(sum(losses.values()), -report["elbo"])


def test_beta_weighs_the_divergence_in_the_loss_and_not_in_the_bound() -> None:
    model, batch = _fixed()
    one, four = (Reconstruction(beta=beta) for beta in (1.0, 4.0))
    losses_one, report_one = one.losses(one.modules(model), batch, "main")
    losses_four, report_four = four.losses(four.modules(model), batch, "main")
    torch.testing.assert_close(losses_four["kl_loss"], 4 * losses_one["kl_loss"])
    torch.testing.assert_close(report_four["elbo"], report_one["elbo"])


def test_gaussian_is_half_the_squared_error() -> None:
    model, batch = _fixed()
    task = Reconstruction(likelihood="gaussian")
    losses, _ = task.losses(task.modules(model), batch, "main")
    expected = 0.5 * (model.outputs["reconstruction"].sigmoid() - batch["image"]).square().flatten(1).sum(1).mean()
    torch.testing.assert_close(losses["reconstruction_loss"], expected)
    with pytest.raises(UsageError, match="did you mean 'gaussian'"):
        Reconstruction(likelihood="gausian")  # a user's typo


def test_noise_belongs_to_the_sample() -> None:
    model, batch = _fixed()
    task = Reconstruction()
    task.losses(task.modules(model), batch, "main")
    task.losses(task.modules(model), {name: value.flip(0) for name, value in batch.items()}, "main")
    assert torch.equal(model.noises[0], model.noises[1].flip(0))
    assert not torch.equal(model.noises[0][0], model.noises[0][1])


def test_mse_is_of_the_mean_and_elbo_of_a_draw() -> None:
    model, batch = _fixed()
    task, metrics = Reconstruction(), Metrics()
    task.measure(task.modules(model), batch, metrics)
    assert [bool(noise.any()) for noise in model.noises] == [True, False]
    found = task.compute(metrics)
    assert found["elbo"] == pytest.approx(-(found["reconstruction_loss"] + found["kl"]))
    squared = (model.outputs["reconstruction"].sigmoid() - batch["image"]).square().mean().item()
    assert found["mse"] == pytest.approx(squared, rel=1e-6)
    assert found["latent_std"] == pytest.approx(model.outputs["latent"].std(correction=0).item(), rel=1e-6)


def test_laplace_is_the_absolute_error_of_images_around_zero() -> None:
    model, batch = _fixed()
    task, metrics = Reconstruction(likelihood="laplace"), Metrics()
    image = 2 * batch["image"] - 1
    losses, _ = task.losses(task.modules(model), {**batch, "image": image}, "main")
    output = model.outputs["reconstruction"]
    torch.testing.assert_close(losses["reconstruction_loss"], (output - image).abs().flatten(1).sum(1).mean())
    task.measure(task.modules(model), {**batch, "image": image}, metrics)
    shown = (output / 2 + 0.5).clamp(0, 1)
    squared = (shown - batch["image"]).square().mean().item()
    assert task.compute(metrics)["mse"] == pytest.approx(squared, rel=1e-6)
    found = task.predict(task.modules(model), {**batch, "image": image})[0]["reconstruction"]
    np.testing.assert_allclose(found[..., 0], shown[0, 0])


@torch.inference_mode()
def test_predictions_are_images_and_embeddings_or_samples_by_seed() -> None:
    subject = build("vae")
    assert isinstance(subject.task, Reconstruction)
    rows = subject.task.predict(subject.modules, subject.batch)
    assert rows[0]["reconstruction"].shape == (8, 8, 1)
    assert rows[0]["embedding"].shape == (3,)
    seeds = torch.tensor([3, 4])
    samples = subject.task.predict(subject.modules, {"key": seeds})
    np.testing.assert_array_equal(samples[1]["image"], subject.task.generate(subject.modules, seeds[1:])[0])
    assert not np.array_equal(samples[0]["image"], samples[1]["image"])
    assert set(subject.task.pictures(subject.modules, subject.batch)) == {"originals", "reconstructions", "samples"}
