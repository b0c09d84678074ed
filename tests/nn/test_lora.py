"""Low-rank adaptation: a layer begins as it was, and what was learnt is added to it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dlsvc.errors import UsageError
from dlsvc.nn.lora import LowRankLinear, adapt, merged
from tests.models.every import build

RANK, ALPHA = 2, 6.0


class Shared(nn.Module):
    """Two parts with one layer between them."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Sequential(nn.Linear(3, 3)), nn.Linear(3, 2)
        self.again = self.one[0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(self.again(self.one(x)))


def _adapted(model: nn.Module, targets: tuple[str, ...], also: tuple[str, ...] = ()) -> nn.Module:
    adapt(model, rank=RANK, alpha=ALPHA, targets=targets, also=also)
    return model


def _learnt(model: nn.Module) -> nn.Module:
    """With something in its low-rank matrices."""
    for layer in model.modules():
        if isinstance(layer, LowRankLinear):
            nn.init.normal_(layer.lora_b)
    return model


def test_nothing_changes_at_first() -> None:
    subject = build("vit")
    subject.model.eval()
    before = subject.model(subject.batch["image"])
    _adapted(subject.model, ("blocks.*",))
    assert torch.equal(subject.model(subject.batch["image"]), before)


def test_the_product_is_added_when_merged() -> None:
    subject, plain = build("vit"), build("vit").model.eval()
    model = _learnt(_adapted(subject.model, ("blocks.*.attention.*",))).eval()
    weights = merged(model.state_dict(), rank=RANK, alpha=ALPHA)
    assert weights.keys() == plain.state_dict().keys()
    plain.load_state_dict(weights)
    image = subject.batch["image"]
    torch.testing.assert_close(plain(image), model(image))
    layer = model.get_submodule("blocks.0.attention.query")
    wanted = layer.weight + ALPHA / RANK * layer.lora_b @ layer.lora_a
    torch.testing.assert_close(weights["blocks.0.attention.query.weight"], wanted)


def test_only_thin_matrices_and_what_is_named_learn() -> None:
    model = _adapted(build("vit").model, ("blocks.*.mlp.*",), also=("head.bias",))
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    layers = {f"blocks.{block}.mlp.{layer}" for block in range(len(model.blocks)) for layer in ("fc1", "fc2")}
    assert learning == {"head.bias"} | {f"{layer}.{part}" for layer in layers for part in ("lora_a", "lora_b")}


def test_a_shared_layer_stays_shared() -> None:
    model = _learnt(_adapted(Shared(), ("one.*",)))
    assert model.again is model.one[0]
    plain = Shared()
    plain.load_state_dict(merged(model.state_dict(), rank=RANK, alpha=ALPHA))
    x = torch.randn(4, 3)
    torch.testing.assert_close(plain(x), model(x))


def test_what_the_model_holds_frozen_is_not_adapted() -> None:
    model = build("blip2_qformer").model
    frozen = next(name for name, p in model.named_parameters() if not p.requires_grad and name.endswith("fc1.weight"))
    with pytest.raises(UsageError, match="matches no linear layer that learns"):
        _adapted(model, (frozen.removesuffix(".weight"),))


def test_globs_that_match_nothing_name_themselves() -> None:
    with pytest.raises(UsageError, match=r"lora.targets: 'blocks.9.\*' matches no linear layer"):
        _adapted(build("vit").model, ("blocks.9.*",))
    with pytest.raises(
        UsageError, match=r"lora.also: 'haed.\*' matches no parameter; close ones: head.bias, head.weight"
    ):
        _adapted(build("vit").model, ("blocks.*",), also=("haed.*",))
