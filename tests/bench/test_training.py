"""Images a second of two recipes, in both precisions, against a plain Lightning loop in fp32 on the same cores: one
worker of two threads, as the loop has them, and the batch as one atom.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from dlsvc.spec.load import load_kind
from dlsvc.spec.schema import TrainSpec
from dlsvc.store.runs import RunStore
from dlsvc.train.launch import train

pytestmark = [
    pytest.mark.bench,
    pytest.mark.usefixtures("ray_cluster"),
    pytest.mark.timeout(1800),
    pytest.mark.skipif(importlib.util.find_spec("lightning") is None, reason="lightning is what we compare with"),
]
JOBS = Path(__file__).parents[2] / "jobs"
PAIRS = 3


def ours(recipe: Path, home: Path, precision: str, name: str) -> float:
    short = ("budget={steps: 60}", "optim.schedule={}", "report.every_steps=10", "checkpoint.every_steps=1000")
    few = ("evaluate.batch_size=1000", f"precision={precision}", f"name={name}")
    alone = ("strategy=plain", "scaling={workers: 1, resources: {cpu: 2}}", "batch.micro_size=128")
    train(load_kind(TrainSpec, str(recipe), (*short, *few, *alone)), run_name=name)
    lines = (RunStore(home).open(name).path / "metrics.jsonl").read_text().splitlines()
    return statistics.median(json.loads(line)["samples_per_s"] for line in lines[1:])


def theirs(recipe: Path) -> float:
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    command = [sys.executable, "-W", "ignore", "-m", "tests.bench.lightning_loop", str(recipe)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", ["resnet34-fashion-mnist", "vgg16-fashion-mnist"])
def test_training_against_lightning(name: str, home: Path) -> None:
    recipe = JOBS / "vision" / f"{name}.yaml"
    ratios: dict[str, list[float]] = {"fp32": [], "bf16": []}
    for pair in range(PAIRS):
        plain = theirs(recipe)
        for precision, found in ratios.items():
            found.append(ours(recipe, home, precision, f"bench-{name[:4]}-{precision}-{pair}") / plain)
    shown = ", ".join(f"{precision} {statistics.median(found):.2f}" for precision, found in ratios.items())
    print(f"\n{name}: images a second as a multiple of Lightning's fp32: {shown}")
