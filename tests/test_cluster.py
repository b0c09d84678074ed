"""A cluster that doesn't start, or isn't there, is an error that says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray

from dlsvc.cluster import cluster, gpus_for, lacking
from dlsvc.errors import ClusterUnreachable
from dlsvc.spec.load import dump_yaml
from tests.train.trials import spec_of


def test_ray_that_does_not_start_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray raises a bare Exception when a node doesn't answer in time."""

    def fail(*_: Any, **__: Any) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", fail)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with (
        pytest.raises(ClusterUnreachable, match=r"didn't start on this machine.*timed out during startup"),
        cluster(None, cpus=2),
    ):
        pass


def test_address_where_nothing_listens_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ClusterUnreachable, match="nothing listens at 127.0.0.1:9"), cluster("127.0.0.1:9", cpus=2):
        pass


def test_what_a_cluster_lacks_is_counted() -> None:
    found = {"CPU": 4.0, "GPU": 1.0}
    assert lacking(4, {"CPU": 1}, found) is None
    assert lacking(1, {"CPU": 1, "GPU": 1}, found) is None
    assert lacking(3, {"CPU": 2, "GPU": 1}, found) == "3 workers ask for 6 CPU, 3 GPU, and there are 4, 1"
    assert lacking(2, {"CPU": 1, "GPU": 0.5}, found) is None
    assert lacking(2, {"CPU": 1, "GPU": 0.6}, found) == "2 workers ask for 2 GPU, and there are 1"
    assert lacking(1, {"CPU": 1, "TPU": 1}, found) == "a worker asks for 1 TPU, and there are 0"


def test_shares_of_a_gpu_are_not_cut() -> None:
    assert gpus_for([]) == gpus_for([0.0, 0.0]) == 0
    assert gpus_for([0.1] * 10) == 1
    for shares in ([0.5] * 3, [0.6, 0.6], [0.3, 0.7, 0.3, 0.7], [1.0, 0.1]):
        assert gpus_for(shares) == 2


def test_workers_that_this_machine_can_never_hold_are_refused(home: Path, tmp_path: Path) -> None:
    """Ray would wait for them for ever. In a process of its own, whose cluster is its own too."""
    file = tmp_path / "spec.yaml"
    file.write_text(dump_yaml(spec_of("lenet5", strategy="ddp", scaling={"workers": 8, "resources": {"gpu": 1}})))
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "dlsvc.cli", "train", str(file), "--name", "too-large"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    assert "8 workers ask for 8 GPU, and there are " in done.stderr
