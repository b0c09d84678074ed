"""A run is a pure function of its spec: in a bare process group, for every system that trains."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from dlsvc.data.order import Shuffled
from dlsvc.data.plan import Plan
from dlsvc.store.bundle import build_model
from dlsvc.store.checkpoint import BUFFER, WEIGHT, Reader, newest_good, weights_sha256
from dlsvc.store.models import ModelStore
from dlsvc.store.runs import RunStore
from tests.train.tiny_systems import TINY, missing
from tests.train.trials import SYSTEMS, killed_in_group, spec_of, train_in_group

STEPS = 12


EXACT = [
    pytest.param("lenet5", (1, 2, 3, 4)),
    *(
        pytest.param(system, (1, 3), marks=pytest.mark.slow if system == "llava" else ())
        for system in SYSTEMS
        if system != "lenet5"
    ),
    *(pytest.param(system, (1, 2, 3, 4), marks=pytest.mark.slow) for system in SYSTEMS if system != "lenet5"),
    *(pytest.param(system, (1, 3), marks=pytest.mark.slow) for system in TINY),
]


def test_every_model_is_held_to_exactness() -> None:
    assert missing(set(SYSTEMS)) == set()


@pytest.mark.parametrize(("system", "counts"), EXACT)
def test_exact_reduction_gives_one_model_for_any_number_of_workers(
    system: str, counts: tuple[int, ...], home: Path
) -> None:
    digests = {}
    for count in counts:
        strategy = "plain" if count == 1 else "ddp"
        spec = spec_of(system, batch__reduce="exact", budget__steps=STEPS, strategy=strategy, scaling__workers=count)
        train_in_group(spec, home, run_name=f"exact-{system}-{count}", world_size=count)
        digests[count] = everything(home, f"exact-{system}-{count}")
    assert digests == dict.fromkeys(digests, digests[1])


@pytest.mark.parametrize("system", ["clip", "blip-queue"])
def test_replayed_atoms_give_what_kept_graphs_do(system: str, home: Path) -> None:
    """Two atoms a step: one worker replays both, each of two keeps the graph of its own."""
    changes = {"batch": {"global_size": 64, "micro_size": 32, "reduce": "exact"}, "budget__steps": 5}
    for count, strategy in ((1, "plain"), (2, "ddp")):
        spec = spec_of(system, strategy=strategy, scaling__workers=count, **changes)
        train_in_group(spec, home, run_name=f"atoms-{system}-{count}", world_size=count)
    assert everything(home, f"atoms-{system}-1") == everything(home, f"atoms-{system}-2")


@pytest.mark.parametrize(("system", "part"), [("lenet5", 15), ("blip-queue", 3)])
def test_exact_run_moves_between_numbers_of_workers_mid_epoch(system: str, part: int, home: Path) -> None:
    """Stopped and rerun with 1, then 3, then 2 workers, `part` steps each: all is as in one go."""
    changes = {"batch__reduce": "exact", "budget__steps": 3 * part, "checkpoint__every_steps": part}
    whole, moved = f"move-whole-{system}", f"move-{system}"
    train_in_group(spec_of(system, strategy="plain", **changes), home, run_name=whole, world_size=1)
    for count, stop in ((1, 1), (3, 1), (2, None)):
        spec = spec_of(system, strategy="plain" if count == 1 else "ddp", scaling__workers=count, **changes)
        train_in_group(spec, home, run_name=moved, world_size=count, stop_after=stop)
    attempts = RunStore(home).open(moved).lines("attempts.jsonl")
    assert [(one["world_size"], one["start_step"]) for one in attempts] == [(1, 0), (3, part), (2, 2 * part)]
    assert everything(home, moved) == everything(home, whole)


# One with two phases, and one whose loss is over the whole batch and what was before it.
QUICK_KILL = ("gan", "blip-queue")


@pytest.mark.parametrize(
    "system", [pytest.param(name, marks=() if name in QUICK_KILL else pytest.mark.slow) for name in [*SYSTEMS, *TINY]]
)
def test_killed_in_the_middle_of_a_phase_changes_nothing(system: str, home: Path) -> None:
    changes = {"budget__steps": STEPS, "checkpoint__every_steps": 5, "strategy": "ddp", "scaling__workers": 2}
    spec = spec_of(system, **changes)
    train_in_group(spec, home, run_name=f"left-alone-{system}", world_size=2)
    said = killed_in_group(spec, home, run_name=f"killed-{system}", world_size=2, step=8)
    assert "rank 1 was killed by signal 9" in said
    train_in_group(spec, home, run_name=f"killed-{system}", world_size=2)
    assert [line["start_step"] for line in RunStore(home).open(f"killed-{system}").lines("attempts.jsonl")] == [0, 5]
    assert everything(home, f"killed-{system}") == everything(home, f"left-alone-{system}")


# One with dropout and one with a loss over the whole batch; `exact` is held to equality for every system.
QUICK_FLOAT = ("vit", "clip")
FLOAT = [
    pytest.param("lenet5", 60, (1, 2, 3, 4), 1e-5),
    *(
        pytest.param(system, STEPS, (1, 3), 1e-4, marks=() if system in QUICK_FLOAT else pytest.mark.slow)
        for system in SYSTEMS
        if system != "lenet5"
    ),
    *(pytest.param(system, STEPS, (1, 3), 1e-4, marks=pytest.mark.slow) for system in TINY),
]


@pytest.mark.parametrize(("system", "steps", "counts", "limit"), FLOAT)
def test_float_reduction_agrees_over_numbers_of_workers(
    system: str, steps: int, counts: tuple[int, ...], limit: float, home: Path
) -> None:
    """Parameters within `limit` of one worker's, relative to their norm, and the same samples in every step."""
    tensors, ledgers = [], []
    for count in counts:
        name = f"float-{system}-{count}"
        spec = spec_of(system, budget__steps=steps, strategy="plain" if count == 1 else "ddp", scaling__workers=count)
        train_in_group(spec, home, run_name=name, world_size=count)
        tensors.append(_tensors(home, name))
        ledgers.append([record["fingerprint"] for record in RunStore(home).open(name).trajectory()])
    apart = [_apart(tensors[0], other) for other in tensors[1:]]
    print(f"{system}: {counts[1:]} workers against one, relative: {', '.join(f'{value:.1e}' for value in apart)}")
    assert max(apart) <= limit
    assert all(ledger == ledgers[0] for ledger in ledgers)


def _apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    between = math.sqrt(sum(float((one[name] - other[name]).double().square().sum()) for name in one))
    return between / math.sqrt(sum(float(one[name].double().square().sum()) for name in one))


def _reader(home: Path, run: str) -> Reader:
    found = newest_good(RunStore(home).open(run).checkpoints)
    assert found is not None
    return Reader(found)


def everything(home: Path, run: str) -> str:
    """sha256 of all that a run's last checkpoint holds: weights, statistics, companions, what optimizers keep."""
    reader = _reader(home, run)
    return weights_sha256({whole: reader.tensor(*whole.split("/", 1)) for whole in reader.manifest.shapes})


def _tensors(home: Path, run: str) -> dict[str, torch.Tensor]:
    reader = _reader(home, run)
    return {**reader.tensors(WEIGHT), **{name: value.float() for name, value in reader.tensors(BUFFER).items()}}


def test_ledger_holds_the_planned_samples(home: Path) -> None:
    """What was trained on, summed over steps, is what the plan says: nothing lost, nothing twice."""
    spec = spec_of("lenet5", budget__steps=30, strategy="ddp", scaling__workers=2)
    train_in_group(spec, home, run_name="ledger", world_size=2)
    records = RunStore(home).open("ledger").trajectory()
    plan = Plan(spec.seed, Shuffled(1500), 64, 8)
    assert sum(record["samples"] for record in records) == 30 * 64
    for record in records:
        planned = sum(plan.fingerprint(step) for step in range(record["first_step"], record["step"]))
        assert (record["fingerprint"] - planned) % 2**64 == 0


@pytest.mark.parametrize(("system", "part"), [("vit", 10), ("blip-queue", 3)])
def test_any_strategy_resumes_any_other(system: str, part: int, home: Path) -> None:
    """A checkpoint is flat ranges of named tensors: FSDP goes on from ZeRO's, at another number of workers too."""
    changes = {"budget__steps": 3 * part, "checkpoint__every_steps": part, "optim": {"name": "adam", "ema_decay": 0.9}}
    whole, relay = f"relay-whole-{system}", f"relay-{system}"
    spec = spec_of(system, strategy="ddp", scaling__workers=2, **changes)
    train_in_group(spec, home, run_name=whole, world_size=2)
    for strategy, stop in (("zero3", 1), ("fsdp", 1), ("zero1", None)):
        spec = spec_of(system, strategy=strategy, scaling__workers=2, **changes)
        last = train_in_group(spec, home, run_name=relay, world_size=2, stop_after=stop)
    assert everything(home, relay) == everything(home, whole)
    bundle = ModelStore(home).open(last["model"])
    assert bundle.weights().keys() == build_model(bundle.config["model"]).state_dict().keys()
