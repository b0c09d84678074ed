"""The README's commands, run as they stand: blocks marked `<!-- run -->` here, `<!-- slow -->` ones with the slow
tests.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
pytestmark = pytest.mark.timeout(900)


def blocks(mark: str) -> list[str]:
    return re.findall(rf"<!-- {mark} -->\n```sh\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Iterator[Path]:
    """A working directory with the recipes, a digit, and a home of its own; its servers are stopped at the end."""
    found = tmp_path_factory.mktemp("reader")
    (found / "jobs").symlink_to(ROOT / "jobs")
    (found / "home").mkdir()
    (found / "home" / "data").symlink_to(home / "data")
    draw_digit(found / "digit.png")
    yield found
    for record in (found / "home" / "servers").glob("*[0-9].json"):
        pid = json.loads(record.read_text()).get("pid")
        if pid is not None:
            os.kill(int(pid), signal.SIGTERM)


def draw_digit(path: Path) -> None:
    from sklearn.datasets import load_digits

    Image.fromarray((load_digits().images[1600] * 15.9).astype(np.uint8)).save(path)


def shell(script: str, folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "DLSVC_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment |= {"DLSVC_HOME": str(folder / "home"), "PATH": path}
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_first_steps_and_serving(folder: Path) -> None:
    first, serve, near, look = blocks("run")
    assert '"status": "finished"' in shell(first, folder)
    *_, served, predicted = shell(serve, folder).splitlines()
    assert json.loads(served) == json.loads(predicted)["answer"]
    shell(near, folder)
    for picture in ("near.png", "plane.png"):
        assert (folder / picture).stat().st_size > 1000
    assert "augmented.png" in shell(look, folder)
    assert (folder / "augmented.png").stat().st_size > 1000


@pytest.mark.slow
def test_the_promise(folder: Path) -> None:
    [block] = blocks("slow")
    results = [json.loads(line) for line in shell(block, folder).splitlines() if line.startswith("{")]
    assert [result["world_sizes"] for result in results] == [[1], [2], [3], [4]]
    assert len({result["weights_sha256"] for result in results}) == 1
