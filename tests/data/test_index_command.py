"""`dlsvc data index`: what it finds, that the second time is instant, and what it doesn't take."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dlsvc.cli import main


def index(*arguments: str, home: Path, code: int = 0) -> tuple[dict[str, Any], str]:
    """The answer of the command, and what it said beside."""
    command = ["data", "index", *arguments, "--json"]
    done = CliRunner().invoke(main, command, env={"DLSVC_HOME": str(home)}, catch_exceptions=False)
    assert done.exit_code == code, done.output
    return (json.loads(done.stdout.splitlines()[-1]) if code == 0 else {}), done.stderr


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A file with a column for the label of another name."""
    path = tmp_path / "data" / "rows.csv"
    path.parent.mkdir()
    path.write_text("a,b,kind\n" + "".join(f"{n},{n % 5},{'odd' if n % 2 else 'even'}\n" for n in range(40)))
    # A file of just now may still be written to within the same tick of the clock, and its index isn't kept.
    os.utime(path, (1e9, 1e9))
    return path


def test_a_file_is_read_once_and_again_only_when_it_changes(rows: Path, tmp_path: Path) -> None:
    asked, home = [str(rows), "--column", "label=kind", "--column", "features=a,b"], tmp_path / "home"
    first, _ = index(*asked, home=home)
    again, _ = index(*asked, home=home)
    assert (first.pop("made"), again.pop("made")) == (True, False)
    assert again == first
    assert first["classes"] == ["even", "odd"]
    rows.write_text(rows.read_text() + "40,0,even\n")
    changed, said = index(*asked, home=home)
    assert changed["made"]
    assert sum(changed["counts"].values()) == sum(first["counts"].values()) + 1
    assert "changed since it was indexed" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--column", "labl=kind"], "did you mean 'label'?"),
        (["--column", "label"], "write FIELD=NAME, as in label=my_label"),
        (["--format", "cvs"], "did you mean 'csv'?"),
    ],
)
def test_what_no_spec_could_say_is_refused(arguments: list[str], message: str, rows: Path, tmp_path: Path) -> None:
    _, said = index(str(rows), *arguments, home=tmp_path / "home", code=2)
    assert message in said
