"""What holds for every registered model: adding a file to dlsvc/models puts it under these."""

from __future__ import annotations

import dataclasses
import fnmatch

import numpy as np
import pytest
import torch

from dlsvc.registry import resolve
from dlsvc.tasks.base import Metrics
from tests.models.every import NAMES, SHAPES, Subject, build, entry_of, only

# A key's bias shifts all of a query's similarities alike, and the last bias of a critic what is real and what is made:
# their gradients are 0 but for rounding.
WITHOUT_EFFECT = ("key.bias", "layers.4.bias")

# A variational bound can't fall to zero, since the pixels' noise stays in it, and a frozen language model that has
# learnt nothing can only be told little.
FALLS_TO = {"vae": 0.9, "kl_autoencoder": 0.9, "blip2": 0.995}

every_model = pytest.mark.parametrize("name", SHAPES)


def _train(subject: Subject, steps: int, lr: float) -> list[dict[str, float]]:
    """The loss of each phase at each step."""
    phases = subject.task.phases
    optimizers = {p: torch.optim.Adam(subject.modules[subject.task.trainable(p)].parameters(), lr) for p in phases}
    history = []
    for _ in range(steps):
        record = {}
        for phase in phases:
            with only(subject, phase):
                loss = subject.losses(phase)
                loss.backward()
            optimizers[phase].step()
            optimizers[phase].zero_grad()
            record[phase] = loss.item()
        history.append(record)
    return history


@every_model
def test_overfits_one_batch(name: str) -> None:
    subject = build(name)
    history = _train(subject, 150, 1e-2)
    assert all(np.isfinite(value) for record in history for value in record.values())
    if subject.task.phases == ("main",):
        assert history[-1]["main"] < FALLS_TO.get(name, 0.5) * history[0]["main"]
    else:
        assert min(record["discriminator"] for record in history) < history[0]["discriminator"]


@pytest.fixture
def deterministic() -> None:
    """As workers train: an operation that has no deterministic implementation raises."""
    torch.use_deterministic_algorithms(True)


@every_model
@pytest.mark.usefixtures("deterministic")
def test_every_parameter_gets_a_finite_gradient(name: str) -> None:
    subject = build(name)
    for phase in subject.task.phases:
        with only(subject, phase) as trained:
            subject.losses(phase).backward()
        for parameter_name, parameter in trained.named_parameters():
            if not parameter.requires_grad:  # frozen from the start
                continue
            assert parameter.grad is not None, parameter_name
            assert torch.isfinite(parameter.grad).all(), parameter_name
            assert parameter.grad.abs().sum() > 0 or parameter_name.endswith(WITHOUT_EFFECT), parameter_name
        subject.model.zero_grad()


@every_model
def test_a_phase_touches_only_its_module(name: str) -> None:
    subject = build(name)
    for phase in subject.task.phases:
        with only(subject, phase) as trained:
            subject.losses(phase).backward()
        own = {id(parameter) for parameter in trained.parameters()}
        assert all(p.grad is None for p in subject.model.parameters() if id(p) not in own)
        subject.model.zero_grad()


@every_model
def test_phases_cover_every_parameter(name: str) -> None:
    subject = build(name)
    trained = {
        id(p) for phase in subject.task.phases for p in subject.modules[subject.task.trainable(phase)].parameters()
    }
    # What is frozen from the start may stand in a module of its own.
    assert trained >= {id(p) for p in subject.model.parameters() if p.requires_grad}


@every_model
def test_state_dict_round_trip(name: str) -> None:
    subject, other = build(name), build(name, seed=1)
    other.model.load_state_dict(subject.model.state_dict(), strict=True)
    other.batch = subject.batch
    for one, two in zip(_predictions(subject), _predictions(other), strict=True):
        np.testing.assert_equal(one, two)


@every_model
def test_a_seed_decides_weights_and_loss(name: str) -> None:
    first, second, third = build(name), build(name), build(name, seed=1)
    phase = first.task.phases[0]
    torch.manual_seed(5)
    one = first.losses(phase)
    torch.manual_seed(5)
    assert torch.equal(one, second.losses(phase))
    assert any(not torch.equal(a, b) for a, b in zip(first.model.parameters(), third.model.parameters(), strict=True))


@every_model
def test_bf16_autocast_step_is_finite(name: str) -> None:
    subject = build(name)
    for phase in subject.task.phases:
        with only(subject, phase) as trained:
            with torch.autocast("cpu", torch.bfloat16):
                loss = subject.losses(phase)
            loss.backward()
        assert loss.dtype == torch.float32
        assert all(torch.isfinite(p.grad).all() for p in trained.parameters() if p.grad is not None)
        subject.model.zero_grad()


@every_model
def test_metrics_merge_over_uneven_shards(name: str) -> None:
    subject = build(name)
    subject.model.eval()
    whole, parts = Metrics(), Metrics()
    with torch.inference_mode():
        subject.task.measure(subject.modules, subject.batch, whole)
        for part in (slice(3, 8), slice(0, 3)):
            shard = Metrics()
            subject.task.measure(subject.modules, {k: v[part] for k, v in subject.batch.items()}, shard)
            parts.merge(shard)
    assert subject.task.compute(parts) == pytest.approx(subject.task.compute(whole), rel=1e-5)


@pytest.mark.parametrize("name", [name for name in SHAPES if not build(name).task.couples_samples])
def test_a_sample_counts_alike_in_an_atom_of_any_size(name: str) -> None:
    """Where samples are coupled, the loss is of the whole global batch."""
    subject = build(name)
    # Neither dropout nor statistics of a batch.
    subject.model.eval()
    atoms = [{name: value[at] for name, value in subject.batch.items()} for at in (slice(0, 2), slice(2, 8))]
    for phase in subject.task.phases:
        few, many = (float(dataclasses.replace(subject, batch=atom).losses(phase).detach()) for atom in atoms)
        whole = float(subject.losses(phase).detach())
        assert (2 * few + 6 * many) / 8 == pytest.approx(whole, rel=1e-4, abs=1e-6), phase


@every_model
def test_metrics_are_those_that_the_task_names(name: str) -> None:
    subject, metrics = build(name), Metrics()
    subject.model.eval()
    with torch.inference_mode():
        subject.task.measure(subject.modules, subject.batch, metrics)
    named = resolve("task", entry_of(name).options["task"]).options["metrics"]
    found = subject.task.compute(metrics)
    assert all(any(fnmatch.fnmatchcase(one, pattern) for pattern in named) for one in found)
    assert named[0] in found


@pytest.mark.parametrize("name", [name for name in NAMES if build(name).task.makes_samples])
def test_a_maker_of_samples_needs_nothing_but_their_keys(name: str) -> None:
    subject = build(name)
    subject.model.eval()
    with torch.inference_mode():
        rows = subject.task.predict(subject.modules, {"key": subject.batch["key"]})
    assert all(row["image"].min() >= 0 and row["image"].max() <= 1 for row in rows)


@every_model
def test_predictions_are_one_a_sample_and_plain(name: str) -> None:
    subject = build(name)
    rows = _predictions(subject)
    assert len(rows) == 8
    assert all(isinstance(value, np.ndarray | float | int) for row in rows for value in row.values())


@every_model
def test_pictures_are_grids_in_the_unit_range(name: str) -> None:
    subject = build(name)
    subject.model.eval()
    with torch.inference_mode():
        grids = subject.task.pictures(subject.modules, subject.batch)
    for grid in grids.values():
        assert grid.ndim == 4
        assert grid.min() >= 0
        assert grid.max() <= 1


@every_model
def test_a_batch_has_the_keys_that_the_task_reads(name: str) -> None:
    subject = build(name)
    entry = resolve("task", entry_of(name).options["task"])
    for reads in entry.options["reads"]:
        assert any(key in subject.batch for key in reads.split("|")), reads
    assert len(subject.batch["id"]) == len(subject.batch["key"]) == 8


def _predictions(subject: Subject) -> list[dict[str, object]]:
    subject.model.eval()
    with torch.inference_mode():
        return subject.task.predict(subject.modules, subject.batch)
