"""Super-resolution: how images are made small, what is measured against, and a model that begins as bicubic."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from dlsvc.store.bundle import build_model
from dlsvc.tasks.base import Metrics
from dlsvc.tasks.super_resolution import SuperResolution, enlarged, reduced
from tests.models.every import build


def test_images_are_made_small_as_pillow_does() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255 * 2 - 1
    found = ((reduced(image, 2)[0] / 2 + 0.5) * 255).round().permute(1, 2, 0).numpy()
    expected = np.asarray(Image.fromarray(pixels).resize((12, 8), Image.Resampling.BICUBIC), np.float32)
    assert np.abs(found - expected).max() <= 1


def test_small_images_hold_bytes() -> None:
    image = torch.rand(2, 3, 16, 16) * 2 - 1
    levels = (reduced(image, 4) / 2 + 0.5) * 255
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)


@torch.inference_mode()
@pytest.mark.parametrize("scale", [2, 4])
def test_a_model_that_adds_to_bicubic_begins_as_bicubic(scale: int) -> None:
    arguments = {"scale": scale, "channels": 4, "num_blocks": 1, "batch_norm": False, "from_bicubic": True}
    model = build_model({"name": "srresnet", "args": arguments}).eval()
    task, image = SuperResolution(), torch.rand(3, 3, 32, 32) * 2 - 1
    metrics = Metrics()
    task.measure(task.modules(model), {"image": image}, metrics)
    found = task.compute(metrics)
    assert found["psnr"] == pytest.approx(found["psnr_bicubic"], abs=1e-6)
    assert found["ssim"] == pytest.approx(found["ssim_bicubic"], abs=1e-6)
    small = reduced(image, scale)
    torch.testing.assert_close(model(small), enlarged(small, scale))


@torch.inference_mode()
def test_a_given_image_is_enlarged() -> None:
    subject = build("srresnet")
    subject.model.eval()
    [row] = subject.task.predict(subject.modules, {"image": torch.zeros(1, 3, 10, 6)})
    assert row["image"].shape == (20, 12, 3)
