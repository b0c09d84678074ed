"""Our ViT, VGG, ResNet and EfficientNet against timm's own, at the papers' sizes with random weights, both ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dlsvc.store.bundle import build_model
from dlsvc.store.interchange import complete_arguments, export_directory, import_directory
from dlsvc.store.keymaps import export_weights, import_weights

TOLERANCE = 1e-5


timm = pytest.importorskip("timm", reason="`make test-interop` installs timm", exc_type=ImportError)


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.randn(8, 3, 224, 224, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def test_vit_b16_from_timm(image: Tensor) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model("vit_base_patch16_224", pretrained=False).eval()
    ours = build_model({"name": "vit", "args": {}}).eval()
    ours.load_state_dict(import_weights("timm/vit", theirs.state_dict()), strict=True)
    assert _gap(ours(image), theirs(image)) <= TOLERANCE


@torch.inference_mode()
def test_vit_b16_to_a_timm_directory_and_back(image: Tensor, tmp_path: Path) -> None:
    torch.manual_seed(0)
    ours = build_model({"name": "vit", "args": {}}).eval()
    export_directory(tmp_path / "out", "timm", "vit", args={}, weights=ours.state_dict())
    theirs = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    assert _gap(ours(image), theirs(image)) <= TOLERANCE
    assert complete_arguments("vit", import_directory(tmp_path / "out").args) == complete_arguments("vit", {})


CONVOLUTIONAL = [
    ("vgg16", "vgg16", {}),
    ("vgg16_bn", "vgg16", {"batch_norm": True}),
    ("resnet18", "resnet34", {"layers": (2, 2, 2, 2)}),
    ("resnet34", "resnet34", {}),
    ("resnet50", "resnet34", {"block": "bottleneck"}),
    ("tf_efficientnet_lite0", "efficientnet", {}),
    ("tf_efficientnet_b0", "efficientnet", {"family": "b"}),
    ("tf_efficientnet_b2", "efficientnet", {"family": "b", "width_factor": 1.1, "depth_factor": 1.2}),
]


@torch.inference_mode()
@pytest.mark.parametrize(("architecture", "name", "args"), CONVOLUTIONAL, ids=lambda value: str(value))
def test_convolutional_networks_both_ways(image: Tensor, architecture: str, name: str, args: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layout = f"timm/{name}"
    theirs = timm.create_model(architecture, pretrained=False).eval()
    _settle_norms(theirs, image)
    ours = build_model({"name": name, "args": args}).eval()
    ours.load_state_dict(import_weights(layout, theirs.state_dict()), strict=True)
    assert _gap(ours(image), theirs(image)) <= TOLERANCE
    other = timm.create_model(architecture, pretrained=False).eval()
    other.load_state_dict(export_weights(layout, ours.state_dict()), strict=True)
    assert _gap(ours(image), other(image)) <= TOLERANCE


def _settle_norms(model: nn.Module, image: Tensor) -> None:
    """Every norm with its own scale, shift, mean and deviation, so that a swap would show, and with such as keep the
    activations near 1: logits of 1e-5 would agree to 1e-5 whatever was wrong.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.weight.add_(torch.randn_like(norm.weight) * 0.05)
        norm.bias.add_(torch.randn_like(norm.bias) * 0.05)
        norm.momentum = 1.0
        norm.train()
    model(image)
    for norm in norms:
        norm.eval()


def _gap(one: Tensor, two: Tensor) -> float:
    assert one.std(0).max() > 1e-3, "the inputs make no difference: nothing is compared"
    gap = float((one - two).abs().max())
    print(f"largest difference {gap:.2e}")
    return gap
