"""docs/add-a-model.md, followed as it stands in a copy of the project: every file and every command of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_readme import draw_digit

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "add-a-model.md").read_text(encoding="utf-8")
_STEPS = re.compile(r"<!-- (run|file (?P<path>\S+)) -->\n```\w+\n(?P<text>.*?)```", re.DOTALL)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_the_page_adds_a_model_and_trains_it(tmp_path: Path, home: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    for name in ("dlsvc", "serving", "jobs", "tests"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", project)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "data").symlink_to(home / "data")
    draw_digit(project / "digit.png")
    said = [_follow(step, project, tmp_path / "home") for step in _STEPS.finditer(PAGE)]
    assert "passed" in said[1]
    trained = next(line for line in said[-1].splitlines() if line.startswith('{"run"'))
    assert json.loads(trained)["metrics"]["accuracy"] > 0.9


def _follow(step: re.Match[str], project: Path, home: Path) -> str:
    if step["path"]:
        assert not (project / step["path"]).exists()
        (project / step["path"]).write_text(step["text"], encoding="utf-8")
        return ""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "DLSVC_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment |= {"DLSVC_HOME": str(home), "PATH": path, "PYTHONPATH": str(project)}
    command = ["bash", "-euo", "pipefail", "-c", step["text"]]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
