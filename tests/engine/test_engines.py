"""One model under any strategy; with exact reduction, for any number of workers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from dlsvc.engine.base import Place
from dlsvc.engine.check import check_ranks
from dlsvc.engine.exact import exact_norm, exact_sum
from dlsvc.errors import RanksDiverged
from dlsvc.spec.sections import PhaseOptimSpec
from tests.engine.network import Setting, advance, build, digest, trained
from tests.engine.processes import run_group

STRATEGIES = ("ddp", "fsdp", "zero1", "zero2", "zero3")


@pytest.mark.parametrize(
    "setting",
    [Setting(micro_size=16), Setting(micro_size=8, clip=0.5, ema=0.9, follow=0.9)],
    ids=["one-atom", "accumulated-clipped-averaged-followed"],
)
def test_strategies_give_one_digest_at_two_workers(setting: Setting) -> None:
    settings = [replace(setting, strategy=strategy) for strategy in STRATEGIES]
    digests = run_group(2, trained, settings)[0]
    assert dict(zip(STRATEGIES, digests, strict=True)) == dict.fromkeys(STRATEGIES, digests[0])


# L1 too: under ZeRO it reaches the optimizer's own copies of the parameters.
OF_ELEMENTS = [
    PhaseOptimSpec(name="sgd", momentum=0.9, weight_decay=0.1),
    PhaseOptimSpec(name="momentum", momentum=0.9, l1=1e-3),
    PhaseOptimSpec(name="adagrad", lr=1e-2, l1=1e-3),
    PhaseOptimSpec(name="rmsprop", weight_decay=0.1),
    PhaseOptimSpec(name="adadelta", lr=1.0),
    PhaseOptimSpec(name="adamw", weight_decay=0.1),
    PhaseOptimSpec(name="lion", weight_decay=0.1),
]


def test_strategies_give_one_digest_for_a_worker_alone() -> None:
    settings = [Setting(strategy, micro_size=16) for strategy in ("plain", *STRATEGIES)]
    assert len(set(run_group(1, trained, settings)[0])) == 1


def test_every_rule_gives_one_digest_under_every_strategy() -> None:
    settings = [Setting(strategy, micro_size=16, optim=optim) for optim in OF_ELEMENTS for strategy in STRATEGIES]
    digests = run_group(2, trained, settings)[0]
    found = {optim.name: set(digests[place * 5 : place * 5 + 5]) for place, optim in enumerate(OF_ELEMENTS)}
    assert {name: len(several) for name, several in found.items()} == dict.fromkeys(found, 1)
    assert len(set(digests)) == len(OF_ELEMENTS)


def test_rules_of_whole_parameters_give_one_digest_for_any_number_of_workers() -> None:
    rules = [PhaseOptimSpec(name="lamb", weight_decay=0.1), PhaseOptimSpec(name="muon", momentum=0.95)]
    settings = [Setting("ddp", micro_size=4, exact=True, optim=optim) for optim in rules]
    alone = run_group(1, trained, [replace(setting, strategy="plain") for setting in settings])[0]
    assert run_group(2, trained, settings)[0] == alone


def test_exact_reduction_gives_one_digest_for_any_number_of_workers() -> None:
    setting = Setting("ddp", micro_size=4, exact=True, clip=0.5, ema=0.9, follow=0.9)
    alone = run_group(1, trained, [replace(setting, strategy="plain")])[0]
    assert [run_group(count, trained, [setting])[0] for count in (2, 3)] == [alone, alone]


def test_float_reduction_needs_the_same_number_of_workers() -> None:
    """The contrast that makes the exact test mean something: float sums do depend on the number of workers."""
    alone = run_group(1, trained, [Setting("plain", micro_size=4)])[0]
    assert run_group(2, trained, [Setting("ddp", micro_size=4)])[0] != alone


@pytest.mark.parametrize("side", [20, 600])
def test_exact_sum_is_the_sum_in_any_order(side: int) -> None:
    """Also of more than is worked on at once."""
    generator = torch.Generator().manual_seed(0)
    terms = [torch.randn(400 + side * 30, generator=generator) * 10.0**power for power in range(-3, 3)]
    like = [torch.empty(400), torch.empty(side, 30)]
    forward = exact_sum(terms, like=like, num_terms=6)
    backward = exact_sum(terms[::-1], like=like, num_terms=6)
    expected = torch.stack(terms).double().sum(0)
    assert all(torch.equal(a, b) for a, b in zip(forward, backward, strict=True))
    assert torch.allclose(torch.cat([part.reshape(-1) for part in forward]).double(), expected, rtol=1e-7, atol=1e-9)


def test_exact_sum_spreads_non_finite_terms() -> None:
    total = exact_sum([torch.tensor([1.0, math.inf]), torch.tensor([1.0, 1.0])], like=[torch.empty(2)], num_terms=2)
    assert torch.isnan(total[0]).all()


@pytest.mark.parametrize("count", [999, 300_000])
def test_exact_norm_does_not_depend_on_the_pieces(count: int) -> None:
    values = torch.randn(count, generator=torch.Generator().manual_seed(2))
    sizes = (count // 999, count // 7, count)
    norms = [exact_norm(values.split(size), num_elements=count, device=torch.device("cpu")) for size in sizes]
    assert norms[0] == norms[1] == norms[2]
    assert float(norms[0]) == pytest.approx(float(values.double().norm()), rel=1e-9)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_exact_norm_of_what_is_not_finite_is_not(bad: float) -> None:
    pieces = [torch.ones(5), torch.zeros(0), torch.tensor([1.0, bad])]
    assert not torch.isfinite(exact_norm(pieces, num_elements=7, device=torch.device("cpu")))


def _check_after_a_fault(rank: int, world_size: int, broken: bool) -> bool:
    setting = Setting("ddp", micro_size=16)
    engine = build(setting, rank, world_size)
    if broken and rank == 1:
        # The fault: this rank's reduced gradients never reach it.
        engine._reduce_round = lambda phase: engine._totals.__setitem__(
            phase.name, [p.grad * 0.5 for p in engine._parameters(phase)]
        )
    advance(engine, setting, 0, 1)
    try:
        check_ranks(engine, 1)
    except RanksDiverged as error:
        return "rank 1" in str(error)
    return False


@pytest.mark.parametrize("broken", [True, False])
def test_check_finds_ranks_that_diverged(broken: bool) -> None:
    assert run_group(2, _check_after_a_fault, broken) == [broken, broken]


def _check_a_strayed_companion(rank: int, world_size: int, strategy: str, part: str) -> bool:
    setting = Setting(strategy, micro_size=16, follow=0.9)
    engine = build(setting, rank, world_size)
    advance(engine, setting, 0, 1)
    check_ranks(engine, 1)
    if rank == 1:
        engine.plain["slow"].state_dict()[part].add_(1e-3)
    try:
        check_ranks(engine, 1)
    except RanksDiverged as error:
        return "rank 1" in str(error)
    return False


@pytest.mark.parametrize(
    ("strategy", "part"), [("ddp", "head.bias"), ("zero3", "head.bias"), ("fsdp", "norm.running_mean")]
)
def test_check_finds_a_companion_that_strayed(strategy: str, part: str) -> None:
    """What is whole on every rank must be equal: weights that follow, and what a companion keeps."""
    assert run_group(2, _check_a_strayed_companion, strategy, part) == [True, True]


class _Done:
    """The handle of a collective that has nothing to wait for."""

    def wait(self) -> None: ...


def _alone(monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
    """The fault: collectives that reduce give every rank its own part back."""
    import torch.distributed as dist
    from deepspeed.runtime.comm import coalesced_collectives

    def scatter(output: torch.Tensor, input: torch.Tensor, **_: object) -> _Done:
        output.copy_(input.reshape(-1).split(output.numel())[rank].view_as(output))
        return _Done()

    monkeypatch.setattr(dist, "reduce_scatter_single", scatter)
    # DeepSpeed's output is a view of its input already.
    monkeypatch.setattr(coalesced_collectives, "_torch_reduce_scatter_fn", lambda *_, **__: None)
    for name in ("all_reduce", "reduce"):
        monkeypatch.setattr(dist, name, lambda *_, **__: _Done())


def _watch(rank: int, world_size: int, strategy: str, broken: bool) -> str:
    setting = Setting(strategy, micro_size=8, clip=0.5)
    engine = build(setting, rank, world_size)
    with pytest.MonkeyPatch.context() as monkeypatch:
        plain = engine.backward

        def backward(*arguments: Any) -> None:
            with monkeypatch.context() as fault:
                _alone(fault, rank)
                plain(*arguments)

        if broken:
            monkeypatch.setattr(engine, "backward", backward)
        try:
            advance(engine, setting, 0, 3, watched=True)
        except RanksDiverged as error:
            return str(error)
    return "equal"


@pytest.mark.parametrize("strategy", ["fsdp", "zero1", "zero2", "zero3"])
def test_watch_finds_a_reduction_that_left_ranks_out(strategy: str) -> None:
    for message in run_group(2, _watch, strategy, True):
        assert message.startswith("at step 1 the gradient to be applied sums to")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_watch_is_silent_when_every_rank_counted(strategy: str) -> None:
    assert run_group(3, _watch, strategy, False) == ["equal"] * 3


def test_dropout_belongs_to_the_atom() -> None:
    """Two engines at the same place draw the same, at another seed of the weights too."""
    digests = []
    for _ in range(2):
        engine = build(Setting("plain"), 0, 1)
        torch.rand(17)
        advance(engine, Setting("plain"))
        digests.append(digest(engine))
    assert digests[0] == digests[1]
    assert Place().world_size == 1
