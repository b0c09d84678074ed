"""What the driver settles before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlsvc.train import prepare
from tests.train.trials import spec_of


@pytest.mark.parametrize(("limit", "feed", "verdict"), [(1 << 30, "resident", "fits"), (1000, "stream", "doesn't fit")])
def test_auto_feed_goes_by_size_and_says_so(
    limit: int, feed: str, verdict: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "RESIDENT_BYTES", limit)
    said: list[str] = []
    spec, run = prepare.open_run(spec_of("lenet5", data__feed="auto"), f"prepare-{feed}", home)
    assert prepare.prepare_job(spec, run, home, said.append).feed == feed
    assert [verdict in line and line.endswith(f"its feed is {feed}") for line in said] == [True]
