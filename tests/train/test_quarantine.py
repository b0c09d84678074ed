"""A folder of which a share is broken, through real runs: what is quarantined is what was broken, in either feed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlsvc.data.quarantine import FILE as QUARANTINE
from dlsvc.errors import RunFailed
from dlsvc.store.runs import Run, RunStore
from dlsvc.train.launch import train
from tests.data.damage import JPEG_DAMAGE, PNG_DAMAGE, jpeg, png
from tests.train.trials import spec_of

pytestmark = [pytest.mark.usefixtures("ray_cluster"), pytest.mark.timeout(300)]
COUNT = 400
KINDS = [*PNG_DAMAGE.items(), *JPEG_DAMAGE.items()]


def broken_folder(path: Path, share: float) -> set[str]:
    """400 small images, `share` of them broken in every way in turn; returns those files' names."""
    chosen = np.random.default_rng(0).permutation(COUNT)[: round(share * COUNT)].tolist()
    for number in range(COUNT):
        name, damage = KINDS[chosen.index(number) % len(KINDS)] if number in chosen else ("", bytes)
        as_jpeg = name in JPEG_DAMAGE or (not name and number % 2 == 0)
        body = damage((jpeg if as_jpeg else png)(number, 16))
        for split in ("train", "test") if not name else ("train",):
            file = path / split / ("odd", "even")[number // 2 % 2] / f"{number:03d}.{'jpg' if as_jpeg else 'png'}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(body)
    return {f"{number:03d}" for number in chosen}


def run_on(path: Path, name: str, feed: str) -> dict[str, Any]:
    spec = spec_of(
        "lenet5",
        data={"source": str(path), "feed": feed, "image": {"size": 16}, "max_bad_fraction": 0.1},
        model={"name": "lenet5", "args": {"image_size": 16, "num_classes": 2}},
        batch={"global_size": 32, "micro_size": 8},
        budget={"epochs": 1},
        strategy="ddp",
        scaling={"workers": 2},
        checkpoint={"every_steps": 5},
    )
    return train(spec, run_name=name, show_progress=False)


def quarantined(run: Run) -> list[str]:
    return [Path(bad["uri"]).stem for bad in run.lines("quarantine.jsonl")]


@pytest.mark.parametrize("feed", [pytest.param("resident", marks=pytest.mark.slow), "stream"])
@pytest.mark.parametrize("share", [pytest.param(0.005, marks=pytest.mark.slow), 0.05])
def test_what_is_quarantined_is_what_was_broken(share: float, feed: str, home: Path, tmp_path: Path) -> None:
    broken, name = broken_folder(tmp_path, share), f"broken-{feed}-{share}".replace(".", "-")
    result = run_on(tmp_path, name, feed)
    found = quarantined(RunStore(home).open(name))
    assert sorted(found) == sorted(broken)
    assert result["quarantined"] == len(broken)


@pytest.mark.parametrize("feed", ["resident", pytest.param("stream", marks=pytest.mark.slow)])
def test_too_many_end_the_run_with_the_table_of_reasons(feed: str, home: Path, tmp_path: Path) -> None:
    broken_folder(tmp_path, 0.3)
    with pytest.raises(RunFailed, match="more than data.max_bad_fraction = 0.1 allows") as error:
        run_on(tmp_path, f"too-broken-{feed}", feed)
    run = Run(home / "runs" / f"too-broken-{feed}")
    print(f"{feed}: ended {time.time() - (run.path / QUARANTINE).stat().st_mtime:.1f} s after the last one was met")
    assert str(error.value).count("\n  sample ") == 20
    assert len(run.lines("attempts.jsonl")) <= 1, json.dumps(run.lines("attempts.jsonl"))
