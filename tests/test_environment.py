"""What is settled before Ray is imported, and the rehearsal cluster's script where it can't start."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dlsvc import environment
from tests.engine.processes import free_port

SCRIPT = Path(__file__).parent.parent / "cluster" / "local.sh"


def test_processes_that_come_first_at_once_have_one_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each finds it whole as soon as it is told where it is."""
    write = Path.write_text

    def slowly(path: Path, text: str) -> int:
        time.sleep(0.1)
        return write(path, text)

    monkeypatch.setattr(Path, "write_text", slowly)
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: environment._token(tmp_path).read_text(), range(4)))
    assert [len(token) for token in found] == [64]
    assert [path.name for path in tmp_path.iterdir()] == ["ray-token"]
    assert (tmp_path / "ray-token").stat().st_mode & 0o777 == 0o600


def rehearse(tmp_path: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """The script with a `ray` that ends at once, as one does that can't have its port."""
    ray = tmp_path / "ray"
    ray.write_text("#!/bin/sh\necho ray $*\nexit 1\n")
    ray.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    places = {"PATH": path, "HOME": str(tmp_path), "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token"), **settings}
    return subprocess.run(
        ["bash", str(SCRIPT)], env={**os.environ, **places}, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_rehearsal_cluster_ends_where_its_head_does(tmp_path: Path) -> None:
    said = rehearse(tmp_path, PORT=str(free_port()), DASHBOARD_PORT=str(free_port()))
    assert (said.returncode, said.stdout.count("ray start")) == (1, 1)
    assert "the head ended before its dashboard answered" in said.stderr


@pytest.mark.parametrize("which", ["PORT", "DASHBOARD_PORT"])
def test_the_rehearsal_cluster_does_not_join_another(which: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])
        said = rehearse(tmp_path, **{"PORT": str(free_port()), "DASHBOARD_PORT": str(free_port()), which: taken})
    assert (said.returncode, said.stdout) == (1, "")
    assert f"something listens on port {taken} already" in said.stderr
