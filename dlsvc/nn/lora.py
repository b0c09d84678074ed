"""Low-rank adaptation (Hu et al. 2022): beside a frozen linear layer W two thin ones learn, and W + (alpha / rank) B A
is what the layer has become.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.nn.fanned import fanned
from dlsvc.nn.names import matching

_A, _B = "lora_a", "lora_b"


class LowRankLinear(nn.Linear):
    """A linear layer with its own weight and bias as they were, and `lora_a` (R, I) and `lora_b` (O, R) beside them."""

    def __init__(self, layer: nn.Linear, rank: int, alpha: float) -> None:
        # On no device: the weights are the layer's.
        super().__init__(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.scale = alpha / rank
        self.lora_a = nn.Parameter(layer.weight.new_empty(rank, layer.in_features))
        # With nothing in B the layer begins as it was.
        self.lora_b = nn.Parameter(layer.weight.new_zeros(layer.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        x = fanned(x)
        beside = F.linear(F.linear(x, self.lora_a), self.lora_b)  # (..., I) -> (..., R) -> (..., O)
        return super().forward(x) + self.scale * beside


def adapt(model: nn.Module, *, rank: int, alpha: float, targets: Sequence[str], also: Sequence[str]) -> None:
    """Give the linear layers that `targets` match low-rank matrices, and let those learn, and of what was there only
    the parameters that `also` matches. Raises UsageError for a glob that matches none.

    What the model itself holds frozen is left out: others rely on it.
    """
    layers = {
        name: layer for name, layer in model.named_modules() if type(layer) is nn.Linear and layer.weight.requires_grad
    }
    chosen = sorted(matching(targets, list(layers), where="lora.targets", what="linear layer that learns"))
    kept = matching(also, [name for name, p in model.named_parameters() if p.requires_grad], where="lora.also")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in kept)
    # A layer that several parts of a model share stays shared.
    adapted: dict[nn.Module, nn.Module] = {layers[name]: LowRankLinear(layers[name], rank, alpha) for name in chosen}
    for parent in list(model.modules()):
        for own, child in list(parent._modules.items()):
            if child in adapted:
                setattr(parent, own, adapted[child])


def merged(weights: Mapping[str, Tensor], *, rank: int, alpha: float) -> dict[str, Tensor]:
    """An adapted model's weights as those of the model that it was: the products added, in float64, where they belong.
    What has no low-rank matrices is as it was.
    """
    found = {name: value for name, value in weights.items() if name.rpartition(".")[2] not in (_A, _B)}
    for name, thin in weights.items():
        layer, _, own = name.rpartition(".")
        if own == _A:
            product = weights[f"{layer}.{_B}"].double() @ thin.double()
            target = found[f"{layer}.weight"]
            found[f"{layer}.weight"] = (target.double() + alpha / rank * product).to(target.dtype)
    return found
