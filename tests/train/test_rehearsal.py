"""Nodes for training and nodes for data: who decodes where, a data node that joins, and one that is lost."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
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


class Watcher(threading.Thread):
    """Adds a data node when the run is under way, and takes one away later."""

    def __init__(self, run: Run, cluster: Any) -> None:
        super().__init__(daemon=True)
        self.run_, self.cluster = run, cluster
        self.first = next(iter(cluster.worker_nodes))
        self.joined = self.lost = ""

    def run(self) -> None:
        wait_until(lambda: self._step() >= 200, 400)
        self.joined = self.cluster.add_node(num_cpus=1, labels={"role": "cpu"}).node_id
        wait_until(lambda: self._step() >= 600, 400)
        self.lost = self.first.node_id
        self.cluster.remove_node(self.first, allow_graceful=False)

    def _step(self) -> int:
        records = self.run_.lines("metrics.jsonl")
        return int(records[-1]["step"]) if records else 0


def test_data_nodes_join_and_leave(home: Path, cluster: Any, tmp_path: Path) -> None:
    expected = train_in_group(spec_of("lenet5", **CHANGES), home, run_name="rehearsed-calm", world_size=2)
    spec = spec_of(
        "lenet5",
        **{**CHANGES, "data__feed": "stream", "data__stream": {"labels": {"role": "cpu"}, "cpu": 1}},
        scaling={"workers": 2, "resources": {"labels": {"role": "trainer"}}},
    )
    run = Run(home / "runs" / "rehearsed")
    watcher = Watcher(run, cluster)
    watcher.start()
    trainer = cluster.head_node.node_id
    path = tmp_path / "spec.yaml"
    path.write_text(dump_yaml(spec))
    command = [sys.executable, "-m", "tests.train.far_away", str(path), "rehearsed", cluster.address]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    watcher.join(10)

    assert result["weights_sha256"] == expected["weights_sha256"]
    assert (result["restarts"], result["world_sizes"]) == (0, [2])
    built = [record for record in run.lines("built.jsonl") if record["node"] != trainer]
    # The driver builds one atom twice, to see how large and slow one is.
    assert len(run.lines("built.jsonl")) - len(built) <= 2
    assert {record["node"] for record in built} == {
        watcher.joined,
        watcher.lost,
        *(node.node_id for node in cluster.worker_nodes),
    }
    two, three = (_rate(run, *span) for span in ((100, 200), (400, 600)))
    print(f"two data nodes {two:.0f} samples/s, three {three:.0f}: {three / two:.2f} times as many")
    assert three > 1.15 * two


def _rate(run: Run, first: int, last: int) -> float:
    times = {record["step"]: record["time"] for record in run.lines("metrics.jsonl")}
    return 64 * (last - first) / float(times[last] - times[first])
