"""Making samples against diffusers' own pipelines: the same weights, solver and number of steps, paired in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from dlsvc.registry import resolve
from dlsvc.store.bundle import build_model
from dlsvc.store.keymaps import export_weights

diffusers = pytest.importorskip("diffusers", reason="`make test-interop` installs diffusers")

pytestmark = [
    pytest.mark.bench,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
PAIRS, BATCH, STEPS = 5, 16, 10
# The recipe's network (unconditional), and as google/ddpm-cifar10-32 is built.
NETWORKS: dict[str, dict[str, Any]] = {
    "ddpm-fashion-mnist": {
        "image_size": 28,
        "in_channels": 1,
        "widths": (32, 64, 64),
        "attention": (False, False, True),
        "blocks": 1,
        "head_dim": 32,
        "groups": 8,
    },
    "ddpm-cifar10": {"image_size": 32},
}


def ours(model: torch.nn.Module) -> Callable[[], object]:
    task = resolve("task", "denoising").load()(solver="ddim", sample_steps=STEPS)
    modules, keys = task.modules(model), torch.arange(BATCH)
    return lambda: task.predict(modules, {"key": keys})


def theirs(model: torch.nn.Module, args: dict[str, Any]) -> Callable[[], object]:
    widths, attention = args.get("widths", (128, 256, 256, 256)), args.get("attention", (False, True, False, False))
    unet = diffusers.UNet2DModel(
        sample_size=args["image_size"],
        in_channels=args.get("in_channels", 3),
        out_channels=args.get("in_channels", 3),
        block_out_channels=widths,
        layers_per_block=args.get("blocks", 2),
        down_block_types=[f"{'Attn' if here else ''}DownBlock2D" for here in attention],
        up_block_types=[f"{'Attn' if here else ''}UpBlock2D" for here in attention[::-1]],
        attention_head_dim=args.get("head_dim", 256),
        norm_num_groups=args.get("groups", 32),
        norm_eps=1e-5,
        downsample_padding=1,
    )
    unet.load_state_dict(export_weights("diffusers/ddpm", model.state_dict()), strict=True)
    pipeline = diffusers.DDIMPipeline(unet.eval(), diffusers.DDIMScheduler())
    pipeline.set_progress_bar_config(disable=True)
    return lambda: pipeline(batch_size=BATCH, num_inference_steps=STEPS, output_type="np")


@pytest.mark.parametrize("name", NETWORKS)
def test_samples_per_second_against_diffusers(name: str) -> None:
    torch.manual_seed(0)
    model = build_model({"name": "ddpm", "args": NETWORKS[name]}).eval()
    with torch.inference_mode():
        makers = {"ours": ours(model), "theirs": theirs(model, NETWORKS[name])}
        ratios = []
        for _ in range(PAIRS + 1):
            seconds = {}
            for who, make in makers.items():
                began = time.perf_counter()
                make()
                seconds[who] = time.perf_counter() - began
            ratios.append(seconds["theirs"] / seconds["ours"])
    print(f"\n{name}, {BATCH} samples in {STEPS} steps: {statistics.median(ratios[1:]):.2f} times diffusers' samples/s")
