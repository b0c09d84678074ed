"""Schedules and samplers against what is known in closed form: data that is Gaussian has an exact network."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from dlsvc.diffusion import (
    SCHEDULES,
    SOLVERS,
    Given,
    Network,
    Sampler,
    as_sample,
    guided,
    kept,
    noised,
    target,
    timesteps,
)
from dlsvc.errors import UsageError

MEAN, STD = 0.7, 0.5
SHARES = kept("linear").tolist()


def exact(prediction: Any, asked: list[int] | None = None) -> Network:
    """The network that predicts best for data of N(MEAN, STD^2): the posterior's mean is linear in x_t."""

    def network(state: Tensor, step: int) -> Tensor:
        if asked is not None:
            asked.append(step)
        share = SHARES[step]
        variance = share * STD**2 + 1 - share
        sample = MEAN + math.sqrt(share) * STD**2 / variance * (state - math.sqrt(share) * MEAN)
        noise = (state - math.sqrt(share) * sample) / math.sqrt(1 - share)
        return target(sample, noise, torch.full((len(state),), share, dtype=torch.float64), prediction)

    return network


def flowed(noise: Tensor) -> Tensor:
    """Where the probability flow leads exactly: Gaussians map linearly, from the marginal at T to the data."""
    share = SHARES[-1]
    return MEAN + STD * (noise - math.sqrt(share) * MEAN) / math.sqrt(share * STD**2 + 1 - share)


def draws(count: int) -> Callable[[int], Tensor]:
    generator = torch.Generator().manual_seed(1)
    return lambda step: torch.randn(count, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_falls_from_nearly_all_to_nearly_nothing(name: Any) -> None:
    for steps in (250, 1000):
        shares = kept(name, steps)
        assert (shares.diff() < 0).all()
        assert shares[0] > 0.99
        assert 0 < shares[-1] < 0.006


def test_linear_schedule_is_the_papers() -> None:
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    torch.testing.assert_close(kept("linear"), (1 - betas).cumprod(0))


@pytest.mark.parametrize("prediction", ["noise", "sample", "velocity"])
def test_a_prediction_gives_the_sample_back(prediction: Any) -> None:
    torch.manual_seed(0)
    sample, noise = torch.randn(2, 5, 3, dtype=torch.float64)
    share = torch.full((5,), 0.3)
    state = noised(sample, noise, share)
    torch.testing.assert_close(as_sample(state, target(sample, noise, share, prediction), 0.3, prediction), sample)


def test_timesteps_end_at_the_first() -> None:
    assert timesteps(1000, 4) == [999, 749, 499, 249]
    assert timesteps(1000, 1000) == list(range(999, -1, -1))
    with pytest.raises(UsageError, match="1 to 10 steps, not 11"):
        timesteps(10, 11)


@pytest.mark.parametrize("prediction", ["noise", "sample", "velocity"])
@pytest.mark.parametrize(("solver", "order"), [("ddim", 1), ("heun", 2), ("dpmpp-2m", 2)])
def test_solvers_follow_the_flow_with_their_order(solver: Any, order: int, prediction: Any) -> None:
    """Four times as many steps leave a quarter of a first-order method's error, and an eighth or less of a second's."""
    torch.manual_seed(0)
    noise = torch.randn(200, dtype=torch.float64)
    apart = []
    for steps in (25, 100):
        found = Sampler(SHARES, prediction, solver, steps).sample(exact(prediction), noise)
        apart.append(float((found - flowed(noise)).abs().max()))
    assert apart[1] < apart[0] * {1: 0.5, 2: 0.13}[order]
    assert apart[1] < {1: 0.05, 2: 0.01}[order]


@pytest.mark.parametrize("steps", [50, 1000])
def test_ddpm_samples_have_the_datas_mean_and_deviation(steps: int) -> None:
    torch.manual_seed(0)
    noise = torch.randn(20000, dtype=torch.float64)
    found = Sampler(SHARES, "noise", "ddpm", steps).sample(exact("noise"), noise, draws(20000))
    assert float(found.mean()) == pytest.approx(MEAN, abs=0.015)
    assert float(found.std()) == pytest.approx(STD, abs=0.07 if steps == 50 else 0.01)


@pytest.mark.parametrize("solver", SOLVERS)
def test_network_is_asked_as_often_as_said(solver: Any) -> None:
    asked: list[int] = []
    sampler = Sampler(SHARES, "noise", solver, 7)
    states = list(sampler.trajectory(exact("noise", asked), torch.zeros(2, dtype=torch.float64), draws(2)))
    assert (len(asked), len(states)) == (sampler.evaluations, 7)
    assert set(asked) == set(timesteps(1000, 7))


def test_last_steps_estimate_is_the_sample_and_is_clipped() -> None:
    far = Sampler(SHARES, "sample", "ddim", 3, clip=1.0).sample(lambda state, step: 5 + 0 * state, torch.zeros(4))
    torch.testing.assert_close(far, torch.ones(4))


def test_guidance_goes_on_past_the_condition() -> None:
    network = guided(lambda state, step, condition: condition, torch.ones(3), torch.zeros(3), 2.5)
    torch.testing.assert_close(network(torch.zeros(3), 0), torch.full((3,), 2.5))


def test_a_little_strength_stays_near_what_was_given() -> None:
    """The flow from the noised sample leads back to it: the network here is exact."""
    torch.manual_seed(0)
    sample = MEAN + STD * torch.randn(500, dtype=torch.float64)
    sampler, noise = Sampler(SHARES, "noise", "dpmpp-2m", 50), torch.randn(500, dtype=torch.float64)
    asked: list[int] = []
    apart = []
    for strength in (0.02, 0.2, 0.5, 1.0):
        asked.clear()
        *_, last = sampler.trajectory(exact("noise", asked), noise, None, Given(sample, strength))
        assert len(asked) == max(1, round(50 * strength))
        assert max(asked) == timesteps(1000, 50)[50 - len(asked)]
        apart.append(float((last - sample).abs().mean()))
    assert apart == sorted(apart)
    assert apart[0] < 0.06 < 0.2 < apart[-1]
    torch.testing.assert_close(last, flowed(noise), atol=0.01, rtol=0)


def test_what_is_to_stay_stays() -> None:
    torch.manual_seed(0)
    sample, noise = torch.full((4, 6), 3.0, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    stay = torch.tensor([1.0, 1, 1, 0, 0, 0], dtype=torch.float64)
    *_, last = Sampler(SHARES, "noise", "ddim", 20).trajectory(exact("noise"), noise, None, Given(sample, 1.0, stay))
    assert torch.equal(last[:, :3], sample[:, :3])
    assert (last[:, 3:] < 2.9).all()


def test_each_sample_may_have_its_guidance() -> None:
    network = guided(lambda state, step, condition: condition, torch.ones(3), torch.zeros(3), torch.arange(3.0))
    torch.testing.assert_close(network(torch.zeros(3), 0), torch.arange(3.0))


def test_wrong_names_are_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'dpmpp-2m'"):
        Sampler(SHARES, solver="dpmpp2m")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no noise schedule is called 'cosin'; did you mean 'cosine'"):
        kept("cosin")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no draw was given"):
        Sampler(SHARES, solver="ddpm", steps=2).sample(exact("noise"), torch.zeros(1))
    with pytest.raises(UsageError, match="strength must be above 0 and at most 1, not 0"):
        Given(torch.zeros(1), 0)
