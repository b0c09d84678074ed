"""What a report says of a run's records."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlsvc.store.runs import Run
from dlsvc.train.report import bottleneck, data_wait


def test_data_wait_is_weighted_by_time_and_leaves_the_start_out(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for first, last, seconds, wait in ((0, 10, 1.0, 0.9), (10, 20, 0.1, 0.5), (20, 30, 0.3, 0.1)):
        run.append("metrics.jsonl", {"first_step": first, "step": last, "seconds_per_step": seconds, "data_wait": wait})
    assert data_wait(run) == pytest.approx((1 * 0.5 + 3 * 0.1) / 4)


def test_bottleneck_names_the_slower_side_and_what_helps() -> None:
    assert bottleneck(0.02, "stream").startswith("Trainers waited for batches 2% of the time: computing is")
    assert "data.stream.actors" in bottleneck(0.4, "stream")
    assert "the stream feed" in bottleneck(0.4, "resident")
