"""A cluster that doesn't start, or isn't there, is an error that says so."""

from __future__ import annotations

from typing import Any

import pytest
import ray

from dlsvc.cluster import cluster
from dlsvc.errors import ClusterUnreachable


def test_ray_that_does_not_start_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray raises a bare Exception when a node doesn't answer in time."""

    def fail(*_: Any, **__: Any) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", fail)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with (
        pytest.raises(ClusterUnreachable, match=r"didn't start on this machine.*timed out during startup"),
        cluster(None, cpus=2),
    ):
        pass


def test_address_where_nothing_listens_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ClusterUnreachable, match="nothing listens at 127.0.0.1:9"), cluster("127.0.0.1:9", cpus=2):
        pass
