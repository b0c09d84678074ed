"""Seconds until the command answers."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dlsvc.spec.load import dump_yaml
from tests.train.trials import spec_of

pytestmark = pytest.mark.bench


def median_s(*arguments: str, times: int = 7) -> float:
    found = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "dlsvc.cli", *arguments], capture_output=True, check=True)
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def test_help_and_validate(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(dump_yaml(spec_of("lenet5")))
    bare = median_s("--version")
    print(f"\ndlsvc --version {bare:.2f} s")
    print(f"dlsvc --help {median_s('--help'):.2f} s")
    print(f"dlsvc validate {median_s('validate', str(path)):.2f} s")
