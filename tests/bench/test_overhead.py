"""What Ray Train costs a step: paired ratios of the same loop under Ray Train and under torchrun, in one run."""

from __future__ import annotations

import functools
import os
import statistics
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
import torch

from dlsvc.engine.base import Engine, Phase, Place
from dlsvc.store.runs import RunStore
from dlsvc.train import launch
from dlsvc.train.saving import save
from tests.bench.loop import bench_job, time_steps

pytestmark = [pytest.mark.bench, pytest.mark.usefixtures("ray_cluster"), pytest.mark.timeout(1800)]
PAIRS = 3


def _timed(config: dict[str, Any], plain: Any) -> dict[str, Any]:
    time_steps(config["job"])
    return dict(plain(config))


def under_ray(system: str, home: Path, **changes: Any) -> float:
    job = bench_job(system, home, f"bench-{uuid.uuid4().hex[:8]}", **changes)
    plain = launch._worker
    launch._worker = functools.partial(_timed, plain=plain)
    try:
        launch._fit(job)
    finally:
        launch._worker = plain
    return float(job.run.read("steps.json")["median_ms"])


def under_torchrun(system: str, home: Path) -> float:
    name = f"bench-{uuid.uuid4().hex[:8]}"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*command, "tests.bench.loop", system, str(home), name], env=environment, check=True, capture_output=True
    )
    return float(RunStore(home).open(name).read("steps.json")["median_ms"])


@pytest.mark.parametrize("system", ["vit", "lenet5"])
def test_step_under_ray_train_against_torchrun(system: str, home: Path) -> None:
    ratios = []
    for _ in range(PAIRS):
        ray, plain = under_ray(system, home, data__feed="resident"), under_torchrun(system, home)
        ratios.append(ray / plain)
        print(f"\n{system}: {ray:.2f} ms under Ray Train, {plain:.2f} ms under torchrun, ratio {ray / plain:.3f}")
    print(f"{system}: median ratio {statistics.median(ratios):.3f} over {PAIRS} pairs")


def test_stream_against_resident(home: Path) -> None:
    resident = under_ray("lenet5", home, data__feed="resident")
    stream = under_ray("lenet5", home, data__feed="stream")
    print(f"\nlenet5: {stream:.2f} ms streamed, {resident:.2f} ms resident, ratio {stream / resident:.2f}")


def test_submit_to_first_step(home: Path) -> None:
    """On a warm cluster, from the call to the end of the first step."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    job = bench_job("lenet5", home, name, data__feed="resident")
    began = time.time()
    launch._fit(job)
    first = job.run.lines("metrics.jsonl")[0]
    print(f"\nfirst step after {first['time'] - began:.1f} s")


def test_checkpoint_stall_against_a_copy(tmp_path: Path) -> None:
    """A save of 64 MB of weights and Adam state, as a multiple of one copy of them in memory."""
    module = torch.nn.Linear(2048, 2048)
    optimizer = torch.optim.Adam([{"params": list(module.parameters()), "base_lr": 1e-3}], 1e-3)
    phase = Phase("main", "model", optimizer, lambda step: 1.0)
    engine = Engine({"model": module}, [phase], seed=0, place=Place())
    engine.begin("main")
    engine.backward("main", module(torch.ones(1, 2048)).sum(), 1.0)
    engine.step("main", 0)
    state = torch.cat([slot.view(slot.owner) for slot, _, _ in engine.slots()] * 3)
    began = time.perf_counter()
    state.clone()
    copy_s = time.perf_counter() - began
    began = time.perf_counter()
    about = {"run": "r", "identity": "i", "strategy": "plain", "seed": 0, "samples_seen": 0}
    save(engine, tmp_path, step=1, about=about, keep=1)
    save_s = time.perf_counter() - began
    ratio = save_s / copy_s
    print(f"\n{state.nbytes / 1e6:.0f} MB: saved in {save_s:.3f} s, copied in {copy_s:.3f} s, {ratio:.1f} copies")
