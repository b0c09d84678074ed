"""Submitting to a cluster of two nodes started with plain `ray start`, with token authentication on."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dlsvc.spec.load import dump_yaml
from dlsvc.store.runs import RunStore
from tests.engine.processes import free_port
from tests.train.trials import spec_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def environment(home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A user's shell: its own token, and the environment's commands on PATH."""
    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text(secrets.token_hex(32))
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    path = os.pathsep.join([str(BIN), os.environ["PATH"]])
    ray = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
    return {**own, **ray, "PATH": path, "DLSVC_HOME": str(home)}


@pytest.fixture(scope="module")
def dashboard(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The dashboard of a head and a second node; both are ended by their own processes."""
    gcs, port, temp = free_port(), free_port(), tmp_path_factory.mktemp("ray")
    head = ["--head", f"--port={gcs}", "--dashboard-host=127.0.0.1", f"--dashboard-port={port}", f"--temp-dir={temp}"]
    second = [f"--address=127.0.0.1:{gcs}"]
    nodes = []
    for arguments in (head, second):
        command = [str(BIN / "ray"), "start", "--block", "--num-cpus=3", "--disable-usage-stats", *arguments]
        nodes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
        _wait_for_start(nodes[-1])
    yield f"http://127.0.0.1:{port}"
    for node in reversed(nodes):
        node.terminate()
        node.wait(timeout=90)


def _wait_for_start(node: subprocess.Popen[str]) -> None:
    assert node.stdout is not None
    for line in node.stdout:
        if "--block" in line:
            return
    raise AssertionError("ray start ended")


def dlsvc(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dlsvc.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_submitted_run_is_followed_to_its_result(
    dashboard: str, environment: dict[str, str], tmp_path: Path, home: Path
) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(dump_yaml(spec_of("lenet5", strategy="ddp", scaling__workers=2)))
    said = dlsvc(environment, "submit", str(path), "--address", dashboard, "--name", "submitted", "--follow", "--json")
    assert said.returncode == 0, said.stderr
    result = json.loads(said.stdout.splitlines()[-1])
    assert (result["status"], result["run"], result["steps"]) == ("finished", "submitted", 60)
    assert RunStore(home).open("submitted").status()["status"] == "finished"
    shown = dlsvc(environment, "runs", "show", "submitted", "--json")
    assert json.loads(shown.stdout)["result"]["weights_sha256"] == result["weights_sha256"]


def test_what_counts_from_here_means_the_same_there(
    dashboard: str, environment: dict[str, str], tmp_path: Path, home: Path
) -> None:
    """A search whose train spec is another file, whose data are a path from this directory, and an override."""
    (tmp_path / "rows.csv").write_text("a,b,label\n" + "".join(f"{n % 7},{n % 5},{n % 2}\n" for n in range(80)))
    (tmp_path / "train.yaml").write_text(
        "kind: train\nname: from-here\nmodel: {name: mlp, args: {in_features: 2, hidden_dims: [4], num_classes: 2}}\n"
        "data: {source: ./rows.csv}\nbudget: {steps: 4}\nbatch: {global_size: 8, micro_size: 8}\n"
    )
    (tmp_path / "tune.yaml").write_text(
        "kind: tune\nname: search-from-here\ntrain: train.yaml\nalgorithm: grid\nsearch: {optim.lr: {choice: [0.1]}}\n"
    )
    command = [sys.executable, "-m", "dlsvc.cli", "submit", "tune.yaml", "train.budget.steps=5"]
    command += ["--address", dashboard, "--follow", "--json"]
    said = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert said.returncode == 0, said.stderr + said.stdout
    [trial] = json.loads(said.stdout.splitlines()[-1])["trials"]
    assert RunStore(home).open(trial["run"]).status()["status"] == "finished"
    assert trial["step"] == 5


def test_kinds_that_are_not_run_to_an_end_are_refused(environment: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text("kind: serve\nmodels: [{model: lenet5}]\n")
    said = dlsvc(environment, "submit", str(path), "--address", "http://127.0.0.1:1", "--json")
    assert said.returncode == 2
    assert "a server has no end" in said.stderr


def test_wrong_token_is_refused(dashboard: str, environment: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(dump_yaml(spec_of("lenet5")))
    stranger = {**environment, "RAY_AUTH_TOKEN_PATH": "", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    del stranger["RAY_AUTH_TOKEN_PATH"]
    said = dlsvc(stranger, "submit", str(path), "--address", dashboard, "--json")
    assert said.returncode == 4, said.stderr


def test_absent_cluster_is_unreachable(environment: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(dump_yaml(spec_of("lenet5")))
    said = dlsvc(environment, "submit", str(path), "--address", f"http://127.0.0.1:{free_port()}", "--json")
    assert said.returncode == 3, said.stderr
    said = dlsvc(environment, "train", str(path), "--address", f"127.0.0.1:{free_port()}", "--json")
    assert said.returncode == 3, said.stderr
