"""Every registered model at its tiny size on a GPU: `make test-gpu`."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.distributed as dist

from dlsvc.engine.base import Place
from dlsvc.nn.device import open_device
from dlsvc.tasks.base import Metrics
from tests.engine.processes import free_port
from tests.models.every import SHAPES, Subject, build
from tests.models.steps import STRATEGIES, digest_after_steps

pytestmark = pytest.mark.gpu
every_model = pytest.mark.parametrize("name", SHAPES)

# Of what both devices computed in float32. Whoever samples in many steps carries rounding on.
NEAR = 1e-3


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """A process group of one, as Ray Train makes it for a worker with a GPU."""
    at = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    os.environ.update(at, MASTER_PORT=str(free_port()))
    device = open_device("cuda")
    dist.init_process_group("nccl", rank=0, world_size=1)
    yield Place(0, 1, device)
    dist.destroy_process_group()


@every_model
def test_steps_repeat_under_every_strategy(name: str, place: Place) -> None:
    """In deterministic mode, in which an operation that can't repeat raises. Of a single worker ZeRO-3 reads parameters
    where they lie, end to end, and kernels round by where that is: it repeats, and need not be the others' bits.
    """
    found = [
        {strategy: digest_after_steps(name, strategy, place) for strategy in ("plain", *STRATEGIES)} for _ in range(2)
    ]
    assert found[0] == found[1]
    assert {digest for strategy, digest in found[0].items() if strategy != "zero3"} == {found[0]["plain"]}


@every_model
def test_steps_in_bf16_repeat_and_are_finite(name: str, place: Place) -> None:
    found = [digest_after_steps(name, "plain", place, precision="bf16") for _ in range(2)]
    assert found[0] == found[1]


@every_model
def test_predictions_are_those_of_a_cpu(name: str, place: Place) -> None:
    subject = build(name)
    subject.model.eval()
    here = _numbers(subject)
    subject.model.to(place.device)
    subject.batch = {key: value.to(place.device) for key, value in subject.batch.items()}
    there = _numbers(subject)
    assert here.keys() == there.keys()
    for key, values in here.items():
        np.testing.assert_allclose(there[key], values, rtol=NEAR, atol=NEAR, err_msg=key)


def _numbers(subject: Subject) -> dict[str, np.ndarray]:
    """What is measured and predicted in floating point, by name and sample."""
    metrics = Metrics()
    with torch.inference_mode():
        rows = subject.task.predict(subject.modules, subject.batch)
        subject.task.measure(subject.modules, subject.batch, metrics)
    losses = {name: total for name, total in metrics.sums.items() if "loss" in name}
    return losses | {
        f"{key} of {place}": np.asarray(value)
        for place, row in enumerate(rows)
        for key, value in row.items()
        if np.asarray(value).dtype.kind == "f"
    }
