"""Runs on disk: what one may be called, who drives it, and what others see of that."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dlsvc.cli import main
from dlsvc.errors import Refused, UsageError
from dlsvc.store.driver import SILENT_S, driving
from dlsvc.store.runs import RUNNING, Run, RunStore


def begin(home: Path, name: str = "one", **spec: Any) -> Run:
    return RunStore(home).begin(name, spec, "i")


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "a/b", "", ".", "One", "one\n", "x" * 64])
def test_what_cannot_be_a_name_is_refused_before_it_is_a_directory(name: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with pytest.raises(UsageError, match="use 1 to 63 of a-z, 0-9, _ and -"):
        begin(home, name)
    with pytest.raises(UsageError):
        RunStore(home).open(name)
    assert list(tmp_path.iterdir()) == []


def test_a_trial_is_a_run_by_the_name_that_ray_gives(tmp_path: Path) -> None:
    assert begin(tmp_path, "search-9a3f1_00004").name in RunStore(tmp_path).names()


def test_a_directory_of_another_name_does_not_end_the_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLSVC_HOME", str(tmp_path))
    begin(tmp_path).path.rename(tmp_path / "runs" / "One more")
    begin(tmp_path)
    said = CliRunner().invoke(main, ["runs", "ls"])
    assert said.exit_code == 0, said.output
    assert "One more" not in said.stdout


def test_a_submitted_run_is_checked_before_it_travels(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        "kind: train\nname: one\nmodel: {name: lenet5}\ndata: {source: digits, image: {size: 32}}\nbudget: {steps: 1}\n"
    )
    said = CliRunner().invoke(main, ["submit", str(spec), "--address", "http://127.0.0.1:1", "--name", "../out"])
    assert said.exit_code == 2
    assert "can't be a run's name" in said.stderr


def elsewhere(run: Run, *, silent_s: float) -> None:
    """As if the driver were on another host, its last sign of life so long ago."""
    with driving(run.path):
        run.mark(RUNNING)
    run.write("status.json", {**run.read("status.json"), "host": "another"})
    then = time.time() - silent_s
    os.utime(run.path / "driver.lock", (then, then))


def test_a_run_has_one_driver(tmp_path: Path) -> None:
    run = begin(tmp_path)
    with driving(run.path):
        with pytest.raises(Refused, match="run 'one' is running"), driving(run.path):
            pass
        run.mark(RUNNING)
        with pytest.raises(Refused, match=f"process {os.getpid()} on .*`dlsvc runs cancel one` stops it"):
            begin(tmp_path)
    with driving(run.path):
        pass


def test_a_killed_driver_makes_way_at_once(tmp_path: Path) -> None:
    run = begin(tmp_path)
    code = (
        "import pathlib, sys, time; from dlsvc.store.driver import driving; from dlsvc.store.runs import Run\n"
        "run = Run(pathlib.Path(sys.argv[1]))\n"
        "with driving(run.path): run.mark('running'); print(flush=True); time.sleep(60)"
    )
    driver = subprocess.Popen([sys.executable, "-c", code, str(run.path)], stdout=subprocess.PIPE)
    assert driver.stdout is not None
    driver.stdout.readline()
    assert run.status()["status"] == "running"
    driver.kill()
    driver.wait()
    assert "the driver is gone" in run.status()["message"]
    with driving(begin(tmp_path).path):
        pass


def test_a_process_that_has_the_number_of_the_driver_is_not_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "kill", lambda pid, number: None if number == 0 else pytest.fail("a stranger was ended"))
    run = begin(tmp_path)
    run.mark(RUNNING)
    assert run.status()["status"] == "running"
    status = run.read("status.json")
    if status["began"] is None:
        pytest.skip("this system doesn't say when a process began")
    run.write("status.json", {**status, "began": status["began"] - 1})
    assert run.status()["status"] == "failed"
    with pytest.raises(Refused, match="is not running"):
        RunStore(tmp_path).cancel("one")
    assert begin(tmp_path) == run


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="a system without /proc")
def test_a_driver_that_nobody_has_waited_for_is_gone(tmp_path: Path) -> None:
    run = begin(tmp_path)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as ended:
        run.mark(RUNNING)
        began = int(Path(f"/proc/{ended.pid}/stat").read_text().rpartition(")")[2].split()[19])
        run.write("status.json", {**run.read("status.json"), "pid": ended.pid, "began": began})
        assert run.status()["status"] == "running"
        ended.kill()
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert run.status()["status"] == "failed"


def test_a_driver_elsewhere_is_believed_while_it_gives_signs_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(tmp_path)
    elsewhere(run, silent_s=SILENT_S - 30)
    # This host's clock is wrong by a day; the file system's counts.
    monkeypatch.setattr(time, "time", lambda: 86400.0)
    assert run.status()["status"] == "running"
    with pytest.raises(Refused, match="on another"):
        begin(tmp_path)
    RunStore(tmp_path).cancel("one")
    assert (run.path / "CANCEL").exists()


def test_a_driver_elsewhere_that_fell_silent_is_gone(tmp_path: Path) -> None:
    run = begin(tmp_path)
    elsewhere(run, silent_s=SILENT_S + 1)
    assert run.status()["status"] == "failed"
    assert "the driver is gone" in run.status()["message"]
    with pytest.raises(Refused, match="is not running"):
        RunStore(tmp_path).cancel("one")
    assert begin(tmp_path) == run


def test_a_driver_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(tmp_path)
    monkeypatch.setattr("dlsvc.store.driver._BEAT_S", 0.01)
    with driving(run.path):
        os.utime(run.path / "driver.lock", (0, 0))
        deadline = time.monotonic() + 10
        while not (run.path / "driver.lock").stat().st_mtime:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_of_two_that_begin_a_name_at_once_the_second_finds_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Run.write

    def slowly(run: Run, *document: Any) -> None:
        time.sleep(0.1)
        write(run, *document)

    monkeypatch.setattr(Run, "write", slowly)

    def attempt(identity: str) -> str:
        try:
            RunStore(tmp_path).begin("one", {"seed": identity}, identity)
        except Refused as error:
            return "another spec" if "another spec" in str(error) else str(error)
        return identity

    with ThreadPoolExecutor(2) as pool:
        found = set(pool.map(attempt, "ab"))
    assert found == {RunStore(tmp_path).open("one").read("spec.json")["identity"], "another spec"}
