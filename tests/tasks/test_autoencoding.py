"""An autoencoder's objective, and codes of bits."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Bernoulli

from dlsvc.errors import UsageError
from dlsvc.models.autoencoder import Autoencoder
from dlsvc.tasks.autoencoding import Autoencoding
from dlsvc.tasks.base import Metrics
from tests.models.every import build


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_loss_and_metrics_are_the_pixels_likelihood(likelihood: str) -> None:
    subject = build("autoencoder")
    task, image = Autoencoding(likelihood=likelihood), subject.batch["image"]  # type: ignore[arg-type]
    logits = subject.model(image)["reconstruction"]
    squared = (logits.sigmoid() - image).square()
    each = -Bernoulli(logits=logits).log_prob(image) if likelihood == "bernoulli" else 0.5 * squared
    expected = each.flatten(1).sum(1).mean().item()
    assert task.losses(subject.modules, subject.batch, "main")[0]["reconstruction_loss"].item() == pytest.approx(
        expected
    )
    metrics = Metrics()
    for part in (slice(3), slice(3, None)):
        task.measure(subject.modules, {name: value[part] for name, value in subject.batch.items()}, metrics)
    found = task.compute(metrics)
    assert found["mse"] == pytest.approx(squared.mean().item())
    assert found["reconstruction_loss"] == pytest.approx(expected)


def test_codes_of_bits_tell_eight_patterns_apart() -> None:
    """The slide's example: the rows of a unit matrix get codes of bits that all differ, and come back from them."""
    torch.manual_seed(0)
    images = torch.eye(8).reshape(8, 1, 1, 8).expand(8, 1, 8, 8).contiguous()
    model = Autoencoder(image_size=8, layers="dense", widths=(32,), code_dim=6, code="binary")
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    task = Autoencoding()
    for _ in range(600):
        (loss,) = task.losses({"model": model}, {"image": images}, "main")[0].values()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        rows = task.predict({"model": model.eval()}, {"image": images})
    codes = [tuple(row["embedding"].tolist()) for row in rows]
    assert {bit for code in codes for bit in code} <= {0.0, 1.0}
    assert len(set(codes)) == 8
    rebuilt = torch.stack([torch.from_numpy(row["reconstruction"]) for row in rows])[..., 0]
    assert torch.equal(rebuilt.round(), images[:, 0])


def test_arguments_are_checked() -> None:
    with pytest.raises(UsageError, match="multiple of 8, not 28"):
        Autoencoder(image_size=28, layers="conv", widths=(4, 8, 8))
    with pytest.raises(UsageError, match="layers is one of"):
        Autoencoder(layers="sparse")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="did you mean 'gaussian'"):
        Autoencoding(likelihood="gausian")  # type: ignore[arg-type]
