"""Update rules that torch doesn't have, or not as the course writes them. Each is of one tensor at a time, whatever
layout a strategy gives it, but for Lamb and Muon, which need a parameter whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Of the quintic whose iteration brings singular values near 1 (Jordan et al. 2024).
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
# An update of a matrix is given the size that AdamW's usually has, so that one learning rate does for all parameters
# (Liu et al. 2025, section 2.2).
_MUON_RMS = 0.2


class _Rule(torch.optim.Optimizer):
    """A rule that updates each parameter by itself from what it keeps of it."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        assert closure is None, "the loop computes gradients by itself"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.update(parameter, parameter.grad, self.state[parameter], group)

    def update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        raise NotImplementedError


class Momentum(_Rule):
    """The course's momentum: m = a m + (1 - a) g, and a step of lr times m. SGD's of torch has g where this has
    (1 - a) g, and so goes 1 / (1 - a) times as far.
    """

    def __init__(self, params: Any, *, lr: float, momentum: float, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    def update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        mean = _kept(state, "momentum_buffer", parameter)
        mean.lerp_(_decayed(gradient, parameter, group), 1 - group["momentum"])
        parameter.add_(mean, alpha=-group["lr"])


class Adagrad(_Rule):
    """Duchi et al. 2011, as the course has it: squares are added up, v = v + g^2, and a step is g lr / (sqrt(v) + eps).
    Torch's makes its sums when it is built, before a strategy has laid parameters out.
    """

    def __init__(self, params: Any, *, lr: float, eps: float, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "eps": eps, "weight_decay": weight_decay})

    def update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        gradient, total = _decayed(gradient, parameter, group), _kept(state, "sum", parameter)
        total.addcmul_(gradient, gradient)
        parameter.addcdiv_(gradient, total.sqrt().add_(group["eps"]), value=-group["lr"])


class Adadelta(_Rule):
    """Zeiler 2012, as the course has it: with v the mean of g^2 and u that of d^2, a step is lr (usually 1) times
    d = g sqrt(u + eps) / (sqrt(v) + eps). The paper, and torch, have sqrt(v + eps).
    """

    def __init__(self, params: Any, *, lr: float, rho: float, eps: float, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay})

    def update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        gradient, kept, eps = _decayed(gradient, parameter, group), group["rho"], group["eps"]
        square, moved = _kept(state, "square_avg", parameter), _kept(state, "acc_delta", parameter)
        square.mul_(kept).addcmul_(gradient, gradient, value=1 - kept)
        step = moved.add(eps).sqrt_().div_(square.sqrt().add_(eps)).mul_(gradient)
        moved.mul_(kept).addcmul_(step, step, value=1 - kept)
        parameter.add_(step, alpha=-group["lr"])


class Lion(_Rule):
    """Chen et al. 2023, algorithm 2: the sign of a mix of gradient and momentum, with decoupled weight decay."""

    def __init__(self, params: Any, *, lr: float, betas: tuple[float, float], weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    def update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        (fast, slow), mean = group["betas"], _kept(state, "exp_avg", parameter)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(mean.lerp(gradient, 1 - fast).sign_(), alpha=-group["lr"])
        mean.lerp_(gradient, 1 - slow)


class Lamb(_Rule):
    """You et al. 2020, algorithm 2: Adam's step and the weight decay, scaled to the parameter's norm layer by layer."""

    def __init__(
        self, params: Any, *, lr: float, betas: tuple[float, float], eps: float, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        step = _adam_step(gradient, state, group).add_(parameter, alpha=group["weight_decay"])
        own, other = _norm(parameter), _norm(step)
        trust = torch.where((own > 0) & (other > 0), own / other, 1.0)
        parameter.sub_(step * (group["lr"] * trust).to(step.dtype))


class Muon(_Rule):
    """Jordan et al. 2024: the momentum of a matrix, or of a convolution's filters as rows, with its singular values
    brought near 1 by Newton-Schulz iterations; AdamW for biases, norms and all else that has one dimension.
    """

    def __init__(
        self,
        params: Any,
        *,
        lr: float,
        momentum: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    def update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        if parameter.dim() < 2:
            parameter.add_(_adam_step(gradient, state, group), alpha=-group["lr"])
            return
        mean = _kept(state, "momentum_buffer", parameter)
        mean.mul_(group["momentum"]).add_(gradient)
        ahead = gradient.add(mean, alpha=group["momentum"])  # Nesterov's
        rows = ahead.flatten(1)
        size = _MUON_RMS * max(rows.shape) ** 0.5
        parameter.add_(orthogonal(rows).view_as(parameter), alpha=-group["lr"] * size)


def orthogonal(matrix: Tensor) -> Tensor:
    """The nearest matrix (M, N) whose singular values are 1, roughly: they end between 0.7 and 1.2."""
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.mT if is_tall else matrix
    x = x / (_norm(x).to(x.dtype) + 1e-7)
    a, b, c = _QUINTIC
    for _ in range(_ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if is_tall else x


def _adam_step(gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    """Adam's direction (Kingma and Ba 2015, algorithm 1): one moment over the other's root, both without their bias."""
    (fast, slow), count = group["betas"], state.get("step", torch.zeros(()))
    state["step"] = count + 1
    mean, square = _kept(state, "exp_avg", gradient), _kept(state, "exp_avg_sq", gradient)
    mean.lerp_(gradient, 1 - fast)
    square.mul_(slow).addcmul_(gradient, gradient, value=1 - slow)
    steps = float(state["step"])
    root = (square / (1 - slow**steps)).sqrt_().add_(group["eps"])
    found: Tensor = (mean / (1 - fast**steps)).div_(root)
    return found


def _kept(state: dict[str, Any], name: str, like: Tensor) -> Tensor:
    """What the state holds under a name; zeros at first."""
    if name not in state:
        state[name] = torch.zeros_like(like)
    found: Tensor = state[name]
    return found


def _decayed(gradient: Tensor, parameter: Tensor, group: dict[str, Any]) -> Tensor:
    """With L2's part."""
    return gradient.add(parameter, alpha=group["weight_decay"]) if group["weight_decay"] else gradient


def _norm(x: Tensor) -> Tensor:
    """In float64: an order of adding up doesn't show."""
    found: Tensor = torch.linalg.vector_norm(x, dtype=torch.float64)
    return found
