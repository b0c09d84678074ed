"""Runs on disk: what one may be called, who drives it, and what others see of that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dlsvc.cli import main
from dlsvc.errors import UsageError
from dlsvc.store.runs import Run, RunStore


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
