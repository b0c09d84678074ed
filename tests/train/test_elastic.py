"""A run that grows when a node joins and shrinks when it is lost gives the model of a run that did neither."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dlsvc.spec.load import dump_yaml
from dlsvc.store.runs import Run
from tests.train.trials import spec_of, train_in_group

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
CHANGES: dict[str, Any] = {
    "batch": {"global_size": 64, "micro_size": 16, "reduce": "exact"},
    "budget__steps": 4000,
    "checkpoint__every_steps": 50,
    "strategy": "ddp",
}


@pytest.fixture
def nodes() -> Iterator[Any]:
    """A cluster whose head has room for one worker of two CPUs."""
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 3, "include_dashboard": False})
    yield found
    found.shutdown()


def wait_until(condition: Callable[[], bool], limit_s: float) -> None:
    until = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until, "nothing happened in time"
        time.sleep(0.1)


def test_elastic_run_gives_the_model_of_a_fixed_one(home: Path, nodes: Any, tmp_path: Path) -> None:
    # Two intra-op threads in both: kernels round by their number.
    fixed = spec_of("lenet5", **{**CHANGES, "strategy": "plain"}, scaling={"workers": 1, "resources": {"cpu": 2}})
    expected = train_in_group(fixed, home, run_name="elastic-fixed", world_size=1)["weights_sha256"]
    scaling = {"workers": {"min": 1, "max": 2}, "resources": {"cpu": 2}, "resize_every_s": 5}
    path = tmp_path / "spec.yaml"
    path.write_text(dump_yaml(spec_of("lenet5", **CHANGES, scaling=scaling)))
    command = [sys.executable, "-m", "dlsvc.cli", "train", str(path), "--name", "elastic", "--json"]
    driver = subprocess.Popen([*command, "--address", nodes.address], stdout=subprocess.PIPE, text=True)
    run = Run(home / "runs" / "elastic")

    def sizes() -> list[int]:
        return [attempt["world_size"] for attempt in run.lines("attempts.jsonl")]

    def is_training(workers: int) -> bool:
        attempts, records = run.lines("attempts.jsonl"), run.lines("metrics.jsonl")
        if not attempts or not records or attempts[-1]["world_size"] != workers:
            return False
        return bool(records[-1]["time"] > attempts[-1]["time"])

    wait_until(lambda: is_training(1), 120)
    joined = nodes.add_node(num_cpus=2)
    wait_until(lambda: is_training(2), 120)
    nodes.remove_node(joined, allow_graceful=False)
    wait_until(lambda: len(sizes()) == 3, 120)
    answer, _ = driver.communicate(timeout=800)
    result = json.loads(answer.splitlines()[-1])
    assert result["world_sizes"] == [1, 2, 1]
    assert result["weights_sha256"] == expected
