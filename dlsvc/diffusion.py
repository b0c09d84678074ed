"""Noise schedules and samplers of diffusion models, as pure functions.

A sample x_0 becomes x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise, where a_t (`kept`) falls from nearly 1 to nearly 0 over
T steps (Ho, Jain and Abbeel 2020, equation 4). B batch, T steps of training.

A network's `prediction` of x_t is the noise ("noise", epsilon), the sample ("sample", x_0) or the velocity
sqrt(a) noise - sqrt(1 - a) x_0 ("velocity", Salimans and Ho 2022); each gives the other two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dlsvc.errors import UsageError, did_you_mean

Prediction = Literal["noise", "sample", "velocity"]
Solver = Literal["ddpm", "ddim", "heun", "dpmpp-2m"]
# x (B, ...), timestep -> the network's prediction (B, ...)
Network = Callable[[Tensor, int], Tensor]
# number of the step -> standard normal noise (B, ...)
Draw = Callable[[int], Tensor]

PREDICTIONS = ("noise", "sample", "velocity")
SOLVERS = ("ddpm", "ddim", "heun", "dpmpp-2m")
SCHEDULES = ("linear", "scaled-linear", "cosine")
# The cosine schedule's end, which would otherwise leave nothing of the sample (Nichol and Dhariwal 2021, section 3.2).
_MOST_BETA = 0.999


def kept(name: Literal["linear", "scaled-linear", "cosine"], num_steps: int = 1000) -> Tensor:
    """The share a_t of the sample's variance that is left at each step, (T,) float64.

    linear: betas from 1e-4 to 0.02 (Ho et al. 2020); scaled-linear: their roots, from 0.00085 to 0.012 (Rombach et al.
    2022); both are scaled to other numbers of steps than 1,000, so that the end is as noisy. cosine: Nichol and
    Dhariwal 2021, equation 17. Raises UsageError for another name.
    """
    if name not in SCHEDULES:
        raise UsageError(f"no noise schedule is called {name!r}{did_you_mean(name, SCHEDULES)}")
    if name == "cosine":
        betas = _cosine_betas(num_steps)
    else:
        scale = 1000 / num_steps
        first, last, power = (1e-4, 0.02, 1) if name == "linear" else (0.00085, 0.012, 2)
        low, high = ((scale * value) ** (1 / power) for value in (first, last))
        betas = torch.linspace(low, high, num_steps, dtype=torch.float64) ** power
    return torch.cumprod(1 - betas.clamp(max=_MOST_BETA), 0)


def _cosine_betas(num_steps: int) -> Tensor:
    places = torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
    whole = torch.cos((places + 0.008) / 1.008 * math.pi / 2).square()
    return 1 - whole[1:] / whole[:-1]


def noised(sample: Tensor, noise: Tensor, share: Tensor) -> Tensor:
    """x_t of samples (B, ...) at their shares a_t (B,)."""
    signal, rest = _roots(share, sample)
    return signal * sample + rest * noise


def target(sample: Tensor, noise: Tensor, share: Tensor, prediction: Prediction) -> Tensor:
    """What a network should predict of x_t: (B, ...), from the samples, their noise and shares a_t (B,)."""
    if prediction == "noise":
        return noise
    if prediction == "sample":
        return sample
    signal, rest = _roots(share, sample)
    return signal * noise - rest * sample


def as_sample(state: Tensor, predicted: Tensor, share: float, prediction: Prediction) -> Tensor:
    """The x_0 that a prediction of x_t means."""
    signal, rest = math.sqrt(share), math.sqrt(1 - share)
    if prediction == "noise":
        return (state - rest * predicted) / signal
    return predicted if prediction == "sample" else signal * state - rest * predicted


def _roots(share: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(a) and sqrt(1 - a), shaped to multiply (B, ...)."""
    shape = (-1, *[1] * (like.dim() - 1))
    share = share.double().reshape(shape)
    return share.sqrt().to(like.dtype), (1 - share).sqrt().to(like.dtype)


def timesteps(num_steps: int, taken: int) -> list[int]:
    """Which of T steps a sampler of fewer takes, from the last one down ("trailing": Lin et al. 2024, table 2). Raises
    UsageError unless 1 <= taken <= T.
    """
    if not 1 <= taken <= num_steps:
        raise UsageError(f"a sampler takes 1 to {num_steps} steps, not {taken}")
    return [round(num_steps - place * num_steps / taken) - 1 for place in range(taken)]


@dataclass(frozen=True)
class Given:
    """Samples (B, ...) to begin from instead of noise alone. With `strength` 1 all steps are taken, with less the last
    share of them (Meng et al. 2022, SDEdit). Where `stay`, broadcast to (B, ...), is 1 the sample stays as it is, and
    the rest is made to fit (Lugmayr et al. 2022, RePaint, without going back).
    """

    sample: Tensor
    strength: float = 1.0
    stay: Tensor | None = None

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise UsageError(f"strength must be above 0 and at most 1, not {self.strength}")

    def skipped(self, steps: int) -> int:
        """How many of so many steps are left out; one is always taken."""
        return steps - max(1, round(steps * self.strength))

    def at(self, share: float, noise: Tensor) -> Tensor:
        """The sample with as much noise as belongs to a share; noise alone where nothing is skipped."""
        if self.strength == 1:
            return noise
        return math.sqrt(share) * self.sample + math.sqrt(1 - share) * noise

    def kept_in(self, state: Tensor, share: float, noise: Tensor) -> Tensor:
        if self.stay is None:
            return state
        own = math.sqrt(share) * self.sample + math.sqrt(1 - share) * noise
        return self.stay * own + (1 - self.stay) * state


@dataclass(frozen=True)
class Sampler:
    """How samples are made of noise.

    `solver`: ddpm (Ho et al. 2020, algorithm 2), ddim (Song, Meng and Ermon 2021, eta 0: Euler's method for the
    probability flow), heun (Karras et al. 2022, algorithm 1 without churn: two evaluations a step), or dpmpp-2m (Lu et
    al. 2022, algorithm 2). `clip` cuts each estimate of x_0 to [-clip, clip].
    """

    shares: Sequence[float]
    prediction: Prediction = "noise"
    solver: Solver = "dpmpp-2m"
    steps: int = 20
    clip: float | None = None

    def __post_init__(self) -> None:
        if self.solver not in SOLVERS:
            raise UsageError(f"no solver is called {self.solver!r}{did_you_mean(self.solver, SOLVERS)}")
        if self.prediction not in PREDICTIONS:
            raise UsageError(f"no prediction is called {self.prediction!r}{did_you_mean(self.prediction, PREDICTIONS)}")
        timesteps(len(self.shares), self.steps)

    @property
    def evaluations(self) -> int:
        """How often the network is asked."""
        return 2 * self.steps - 1 if self.solver == "heun" else self.steps

    def sample(self, network: Network, noise: Tensor, draw: Draw | None = None) -> Tensor:
        """Noise (B, ...) -> samples of the same shape. `draw` gives the further noise that ddpm adds."""
        *_, last = self.trajectory(network, noise, draw)
        return last

    def trajectory(
        self, network: Network, noise: Tensor, draw: Draw | None = None, given: Given | None = None
    ) -> Iterator[Tensor]:
        """The state after each step; the last is the sample. From a `given` sample it starts on the way, and what of
        it is to stay is put back after each step.
        """
        steps = timesteps(len(self.shares), self.steps)
        # The step after the last leaves no noise.
        shares = [*(self.shares[step] for step in steps), 1.0]
        skipped = 0 if given is None else given.skipped(self.steps)
        steps, shares = steps[skipped:], shares[skipped:]
        state, before = noise if given is None else given.at(shares[0], noise), None
        for number, step in enumerate(steps):
            share, following = shares[number], shares[number + 1]
            estimate = self._estimate(network, state, step, share)
            if self.solver == "ddpm":
                state = _ddpm(state, estimate, share, following, _drawn(draw, number, following))
            elif self.solver == "dpmpp-2m":
                earlier = None if before is None else (before, shares[number - 1])
                state = _dpmpp(state, estimate, share, following, earlier)
            elif self.solver == "heun" and following < 1:
                state = self._heun(network, state, estimate, (share, following), steps[number + 1])
            else:
                state = _ddim(state, estimate, share, following)
            before = estimate
            state = state if given is None else given.kept_in(state, following, noise)
            yield state

    def _estimate(self, network: Network, state: Tensor, step: int, share: float) -> Tensor:
        estimate = as_sample(state, network(state, step), share, self.prediction)
        return estimate if self.clip is None else estimate.clamp(-self.clip, self.clip)

    def _heun(
        self, network: Network, state: Tensor, estimate: Tensor, shares: tuple[float, float], next_step: int
    ) -> Tensor:
        """Euler's step, and again with the mean of the slopes at both ends."""
        share, following = shares
        slope = _slope(state, estimate, share)
        end = _ddim(state, estimate, share, following)
        other = _slope(end, self._estimate(network, end, next_step, following), following)
        width = _spread(following) - _spread(share)
        return math.sqrt(following) * (state / math.sqrt(share) + width * (slope + other) / 2)


def guided(
    network: Callable[[Tensor, int, Tensor], Tensor], wanted: Tensor, without: Tensor, scale: float | Tensor
) -> Network:
    """Classifier-free guidance (Ho and Salimans 2022, equation 6, with scale = 1 + w): `scale` times the way from the
    prediction without the condition to the one with it. Conditions are (B, ...); both go through as one batch. A
    sample may have a scale of its own: then it is shaped to multiply (B, ...).
    """

    def ask(state: Tensor, step: int) -> Tensor:
        both = network(torch.cat([state, state]), step, torch.cat([wanted, without]))
        one, other = both.chunk(2)
        return other + scale * (one - other)

    return ask


def _drawn(draw: Draw | None, number: int, following: float) -> Tensor | None:
    if following == 1:
        return None
    if draw is None:
        raise UsageError("ddpm adds noise at every step, and no draw was given")
    return draw(number)


def _ddpm(state: Tensor, estimate: Tensor, share: float, following: float, noise: Tensor | None) -> Tensor:
    """The posterior's mean (equation 7 of Ho et al. 2020, over the steps left out), and its noise."""
    part = share / following
    mean = math.sqrt(following) * (1 - part) / (1 - share) * estimate
    mean = mean + math.sqrt(part) * (1 - following) / (1 - share) * state
    return mean if noise is None else mean + math.sqrt((1 - following) / (1 - share) * (1 - part)) * noise


def _ddim(state: Tensor, estimate: Tensor, share: float, following: float) -> Tensor:
    noise = (state - math.sqrt(share) * estimate) / math.sqrt(1 - share)
    return math.sqrt(following) * estimate + math.sqrt(1 - following) * noise


def _slope(state: Tensor, estimate: Tensor, share: float) -> Tensor:
    """d(x / sqrt(a)) / d spread: the noise."""
    return (state - math.sqrt(share) * estimate) / math.sqrt(1 - share)


def _spread(share: float) -> float:
    """The noise's deviation where the sample's scale is 1."""
    return math.sqrt((1 - share) / share)


def _dpmpp(
    state: Tensor, estimate: Tensor, share: float, following: float, earlier: tuple[Tensor, float] | None
) -> Tensor:
    """One step of the second-order multistep method; of the first order at the start and at the end, where the
    logarithm of the noise has no bound.
    """
    if following == 1:
        return estimate
    width = _log_ratio(following) - _log_ratio(share)
    if earlier is not None:
        before, first = earlier
        weight = width / (2 * (_log_ratio(share) - _log_ratio(first)))
        estimate = (1 + weight) * estimate - weight * before
    rest = math.sqrt((1 - following) / (1 - share))
    return rest * state - math.sqrt(following) * math.expm1(-width) * estimate


def _log_ratio(share: float) -> float:
    """Half the logarithm of the signal-to-noise ratio."""
    return 0.5 * math.log(share / (1 - share))
