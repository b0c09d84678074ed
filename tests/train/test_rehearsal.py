"""Nodes for training and nodes for data: who decodes where, a data node that joins, and one that is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dlsvc.spec.load import dump_yaml
from dlsvc.store.runs import Run
from tests.train.test_elastic import wait_until
from tests.train.trials import spec_of, train_in_group

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STEPS = 900
CHANGES: dict[str, Any] = {
    "strategy": "ddp",
    "batch": {"global_size": 64, "micro_size": 16},
    "budget__steps": STEPS,
    "checkpoint__every_steps": 100,
    "data__augment": [{"name": "shift", "max_pixels": 2}, {"name": "rotation"}],
}


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head that trains, and two nodes that decode."""
    from ray.cluster_utils import Cluster

    trainers = {"num_cpus": 4, "include_dashboard": False, "labels": {"role": "trainer"}}
    found = Cluster(initialize_head=True, head_node_args=trainers)
    for _ in range(2):
        found.add_node(num_cpus=1, labels={"role": "cpu"})
    yield found
    found.shutdown()


def test_data_nodes_join_and_leave(home: Path, cluster: Any, tmp_path: Path) -> None:
    expected = train_in_group(spec_of("lenet5", **CHANGES), home, run_name="rehearsed-calm", world_size=2)
    spec = spec_of(
        "lenet5",
        **{**CHANGES, "data__feed": "stream", "data__stream": {"labels": {"role": "cpu"}, "cpu": 1}},
        scaling={"workers": 2, "resources": {"labels": {"role": "trainer"}}},
    )
    run, path = Run(home / "runs" / "rehearsed"), tmp_path / "spec.yaml"
    path.write_text(dump_yaml(spec))
    command = [sys.executable, "-m", "tests.train.far_away", str(path), "rehearsed", cluster.address]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def step() -> int:
        return int(([{"step": 0}, *run.lines("metrics.jsonl")])[-1]["step"])

    lost, stays = sorted(cluster.worker_nodes, key=lambda node: node.node_id)
    wait_until(lambda: step() >= 200, 200)
    joined = cluster.add_node(num_cpus=1, labels={"role": "cpu"})
    wait_until(lambda: step() >= 600, 200)
    cluster.remove_node(lost, allow_graceful=False)
    answer, _ = driver.communicate(timeout=400)
    result = json.loads(answer.splitlines()[-1])

    assert result["weights_sha256"] == expected["weights_sha256"]
    assert (result["restarts"], result["world_sizes"]) == (0, [2])
    trainer = cluster.head_node.node_id
    built = [record for record in run.lines("built.jsonl") if record["node"] != trainer]
    # The driver builds one atom twice, to see how large and slow one is.
    assert len(run.lines("built.jsonl")) - len(built) <= 2
    assert {record["node"] for record in built} == {lost.node_id, stays.node_id, joined.node_id}
    two, three = (_rate(run, *span) for span in ((100, 200), (400, 600)))
    print(f"two data nodes {two:.0f} samples/s, three {three:.0f}: {three / two:.2f} times as many")
    late = [record["node"] for record in built if 300 <= record["step"] < 600]
    assert late.count(joined.node_id) > 0.15 * len(late)


def _rate(run: Run, first: int, last: int) -> float:
    times = {record["step"]: record["time"] for record in run.lines("metrics.jsonl")}
    return 64 * (last - first) / float(times[last] - times[first])
