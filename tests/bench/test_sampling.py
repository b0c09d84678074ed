"""Making samples against diffusers' own pipelines: the same weights, solver and number of steps, paired in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from dlsvc.registry import resolve
from dlsvc.store.bundle import build_model, ready_model
from dlsvc.store.keymaps import export_weights

diffusers = pytest.importorskip("diffusers", reason="`make test-interop` installs diffusers")

pytestmark = [
    pytest.mark.bench,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
PAIRS, BATCH, STEPS = 5, 16, 10
# That of the recipe ddpm-fashion-mnist, unconditional.
NETWORK: dict[str, Any] = {
    "image_size": 28,
    "in_channels": 1,
    "widths": (32, 64, 64),
    "attention": (False, False, True),
    "blocks": 1,
    "head_dim": 32,
    "groups": 8,
}


def ours(model: torch.nn.Module) -> Callable[[], object]:
    task = resolve("task", "denoising").load()(solver="ddim", sample_steps=STEPS)
    modules, keys = task.modules(model), torch.arange(BATCH)
    return lambda: task.predict(modules, {"key": keys})


def theirs(weights: dict[str, torch.Tensor]) -> Callable[[], object]:
    attention = NETWORK["attention"]
    unet = diffusers.UNet2DModel(
        sample_size=NETWORK["image_size"],
        in_channels=NETWORK["in_channels"],
        out_channels=NETWORK["in_channels"],
        block_out_channels=NETWORK["widths"],
        layers_per_block=NETWORK["blocks"],
        down_block_types=[f"{'Attn' if here else ''}DownBlock2D" for here in attention],
        up_block_types=[f"{'Attn' if here else ''}UpBlock2D" for here in attention[::-1]],
        attention_head_dim=NETWORK["head_dim"],
        norm_num_groups=NETWORK["groups"],
        norm_eps=1e-5,
        downsample_padding=1,
    )
    unet.load_state_dict(export_weights("diffusers/ddpm", weights), strict=True)
    pipeline = diffusers.DDIMPipeline(unet.eval(), diffusers.DDIMScheduler())
    pipeline.set_progress_bar_config(disable=True)
    return lambda: pipeline(batch_size=BATCH, num_inference_steps=STEPS, output_type="np")


def test_samples_per_second_against_diffusers() -> None:
    torch.manual_seed(0)
    part = {"name": "ddpm", "args": NETWORK}
    weights = build_model(part).state_dict()
    makers = {"ours": ours(ready_model(part, weights)), "theirs": theirs(weights)}
    ratios = []
    for _ in range(PAIRS + 1):
        seconds = {}
        for who, make in makers.items():
            began = time.perf_counter()
            with torch.inference_mode():
                make()
            seconds[who] = time.perf_counter() - began
        ratios.append(seconds["theirs"] / seconds["ours"])
    print(f"\n{BATCH} samples in {STEPS} steps: {statistics.median(ratios[1:]):.2f} times diffusers' samples/s")
