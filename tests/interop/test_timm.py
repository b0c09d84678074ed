"""Our ViT against timm's own, at ViT-B/16 with random weights, both ways."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dlsvc.store.bundle import build_model
from dlsvc.store.interchange import complete_arguments, export_directory, import_directory
from dlsvc.store.keymaps import import_weights

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def timm() -> Any:
    """timm needs torchvision, whose compiled operators don't load beside a CPU build of torch: declaring two of them is
    enough to import it."""
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    operators = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    yield pytest.importorskip("timm", exc_type=ImportError)
    del operators


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.randn(8, 3, 224, 224, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def test_vit_b16_from_timm(timm: Any, image: Tensor) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model("vit_base_patch16_224", pretrained=False).eval()
    ours = build_model({"name": "vit", "args": {}}).eval()
    ours.load_state_dict(import_weights("timm/vit", theirs.state_dict()), strict=True)
    assert _gap(ours(image), theirs(image)) <= TOLERANCE


@torch.inference_mode()
def test_vit_b16_to_a_timm_directory_and_back(timm: Any, image: Tensor, tmp_path: Path) -> None:
    torch.manual_seed(0)
    ours = build_model({"name": "vit", "args": {}}).eval()
    export_directory(tmp_path / "out", "timm", "vit", args={}, weights=ours.state_dict())
    theirs = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    assert _gap(ours(image), theirs(image)) <= TOLERANCE
    assert complete_arguments("vit", import_directory(tmp_path / "out").args) == complete_arguments("vit", {})


def _gap(one: Tensor, two: Tensor) -> float:
    assert one.std(0).max() > 1e-3, "the inputs make no difference: nothing is compared"
    gap = float((one - two).abs().max())
    print(f"largest difference {gap:.2e}")
    return gap
