"""Runs on a real Ray cluster: strategies, feeds, kills, cancellation."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dlsvc.data.order import Shuffled
from dlsvc.data.plan import Plan
from dlsvc.errors import RunCancelled, UsageError
from dlsvc.store.models import ModelStore
from dlsvc.store.runs import Run, RunStore
from dlsvc.train.launch import train
from tests.train.trials import spec_of

STRATEGIES = ("ddp", "fsdp", "zero1", "zero2", "zero3")
pytestmark = pytest.mark.usefixtures("ray_cluster")


def run_on_ray(name: str, **changes: Any) -> dict[str, Any]:
    spec = spec_of("lenet5", **{"strategy": "ddp", "scaling__workers": 2, "data__feed": "resident", **changes})
    return train(spec, run_name=name, show_progress=False)


@pytest.fixture(scope="module")
def calm(home: Path, ray_cluster: None) -> dict[str, Any]:
    """The run that nothing happens to."""
    return run_on_ray("ray-calm")


def test_result_says_what_outside_checks_read(calm: dict[str, Any], home: Path) -> None:
    assert (calm["status"], calm["steps"], calm["samples_seen"]) == ("finished", 60, 3840)
    assert (calm["world_sizes"], calm["restarts"], calm["feed"]) == ([2], 0, "resident")
    assert calm["model"].startswith("trial-lenet5@")
    assert len(calm["weights_sha256"]) == 64
    assert "<img" in Path(calm["report"]).read_text()
    assert list((home / "runs" / "ray-calm" / "tb").iterdir())


def test_finished_run_is_given_back(calm: dict[str, Any], home: Path) -> None:
    attempts = home / "runs" / "ray-calm" / "attempts.jsonl"
    before = attempts.read_text()
    assert run_on_ray("ray-calm") == calm
    assert attempts.read_text() == before


def test_a_finished_run_moves_the_alias_that_it_is_asked_for_now(calm: dict[str, Any], home: Path) -> None:
    best = {"name": "trial-lenet5", "alias": "calmest"}
    assert run_on_ray("ray-calm", publish=best) == calm
    assert ModelStore(home).aliases("trial-lenet5")["calmest"] == int(calm["model"].partition("@")[2])
    refused = run_on_ray("ray-calm", publish={**best, "alias": "other", "promote_if": {"accuracy": "> 1"}})
    assert refused["promoted"] is False
    assert "other" not in ModelStore(home).aliases("trial-lenet5")
    with pytest.raises(UsageError, match=r"publish.name: run ray-calm has published trial-lenet5@\d"):
        run_on_ray("ray-calm", publish={"name": "trial-other"})


QUICK = {("fsdp", "stream"), ("zero3", "resident")}
MATRIX = [
    pytest.param(strategy, feed, marks=() if (strategy, feed) in QUICK else pytest.mark.slow)
    for strategy in STRATEGIES
    for feed in ("resident", "stream")
]


@pytest.mark.parametrize(("strategy", "feed"), MATRIX)
def test_strategies_and_feeds_give_one_model(strategy: str, feed: str, calm: dict[str, Any]) -> None:
    result = run_on_ray(f"ray-{strategy}-{feed}", strategy=strategy, data__feed=feed)
    assert (result["feed"], result["weights_sha256"]) == (feed, calm["weights_sha256"])


@pytest.mark.slow
def test_four_workers_share_eight_atoms(calm: dict[str, Any], home: Path) -> None:
    result = run_on_ray("ray-four", scaling__workers=4)
    assert result["metrics"]["loss"] == pytest.approx(calm["metrics"]["loss"], rel=1e-4)
    sums = [
        [record["fingerprint"] for record in RunStore(home).open(name).trajectory()]
        for name in ("ray-calm", "ray-four")
    ]
    assert sums[0] == sums[1]


class Killer(threading.Thread):
    """Sends SIGKILL to a random worker of a run, each time it has moved on."""

    def __init__(self, run: Run, times: int, seed: int = 0) -> None:
        super().__init__(daemon=True)
        self.run_, self.times, self.random = run, times, random.Random(seed)
        self.recovery_s: list[float] = []

    def run(self) -> None:
        for kill in range(self.times):
            while not self._has_moved_on(kill):
                time.sleep(0.02)
            os.kill(self.random.choice(self.run_.read("workers.json")["pids"]), signal.SIGKILL)
            killed = time.time()
            while len(self.run_.lines("attempts.jsonl")) < kill + 2:
                time.sleep(0.02)
            self.recovery_s.append(time.time() - killed)

    def _has_moved_on(self, kill: int) -> bool:
        attempts, records = self.run_.lines("attempts.jsonl"), self.run_.lines("metrics.jsonl")
        if len(attempts) != kill + 1 or not records or records[-1]["time"] < attempts[-1]["time"]:
            return False
        return bool(records[-1]["step"] >= attempts[-1]["start_step"] + 5 and "pids" in self.run_.read("workers.json"))


def check_trajectory(run: Run, seed: int, steps: int) -> None:
    """Every step's samples are those of the plan, once."""
    plan, records = Plan(seed, Shuffled(1500), 64, 8), run.trajectory()
    assert [record["first_step"] for record in records[1:]] == [record["step"] for record in records[:-1]]
    assert (records[0]["first_step"], records[-1]["step"]) == (0, steps)
    for record in records:
        planned = sum(plan.fingerprint(step) for step in range(record["first_step"], record["step"]))
        assert (record["fingerprint"] - planned) % 2**64 == 0


KILLS = [
    pytest.param("ddp", "resident", 2),
    *(
        pytest.param(strategy, feed, 5, marks=pytest.mark.slow)
        for strategy in ("ddp", "fsdp", "zero3")
        for feed in ("resident", "stream")
    ),
]
LONG = {"budget__steps": 200, "checkpoint__every_steps": 10}


@pytest.fixture(scope="module")
def long(home: Path, ray_cluster: None) -> str:
    return str(run_on_ray("ray-long", **LONG)["weights_sha256"])


@pytest.mark.parametrize(("strategy", "feed", "times"), KILLS)
@pytest.mark.timeout(600)
def test_killed_workers_change_nothing(strategy: str, feed: str, times: int, home: Path, long: str) -> None:
    name = f"kill-{strategy}-{feed}-{times}"
    killer = Killer(Run(home / "runs" / name), times)
    killer.start()
    result = run_on_ray(name, strategy=strategy, data__feed=feed, **LONG)
    print(f"{name}: recovered in {', '.join(f'{seconds:.1f}' for seconds in killer.recovery_s)} s")
    assert (result["restarts"], result["weights_sha256"]) == (times, long)
    check_trajectory(RunStore(home).open(name), 7, 200)


def test_cancelled_run_resumes(home: Path, long: str) -> None:
    """Also with what Ray itself keeps of a run torn: nothing of it is read."""
    run = Run(home / "runs" / "ray-cancelled")

    def cancel() -> None:
        while not run.lines("metrics.jsonl"):
            time.sleep(0.02)
        (run.path / "CANCEL").touch()

    threading.Thread(target=cancel, daemon=True).start()
    with pytest.raises(RunCancelled, match="the same command resumes it"):
        run_on_ray("ray-cancelled", **LONG)
    assert run.status()["status"] == "cancelled"
    for folder in (run.path / "ray").iterdir():
        (folder / "checkpoint_manager_snapshot.json").write_text('{"ray_version": "2.6')
    result = run_on_ray("ray-cancelled", **LONG)
    assert (result["restarts"], result["weights_sha256"]) == (1, long)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_driver_resumes_by_the_same_command(home: Path, tmp_path: Path, long: str) -> None:
    from dlsvc.spec.load import dump_yaml

    path = tmp_path / "spec.yaml"
    path.write_text(dump_yaml(spec_of("lenet5", strategy="ddp", scaling__workers=2, data__feed="resident", **LONG)))
    command = [sys.executable, "-m", "dlsvc.cli", "train", str(path), "--name", "driver-killed", "--json"]
    run = Run(home / "runs" / "driver-killed")
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not any(record["step"] >= 30 for record in run.lines("metrics.jsonl")):
        time.sleep(0.05)
    driver.kill()
    driver.wait()
    assert run.status()["status"] == "failed"
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(again.stdout.splitlines()[-1])
    assert (result["restarts"], result["weights_sha256"]) == (1, long)
    check_trajectory(run, 7, 200)
