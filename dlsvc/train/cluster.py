"""[R] A Ray cluster to run on: this machine's own, started with the process, or one at an address."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

import ray

from dlsvc.errors import ClusterUnreachable

# Read by Ray Train's controller: how often workers are polled, and how long a lost node is waited for.
_TRAIN_ENVIRONMENT = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.3", "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20"}
_QUIET = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_DEDUP_LOGS": "1"}


@contextlib.contextmanager
def cluster(address: str | None, *, cpus: int, home: Path, dashboard: bool = False) -> Iterator[None]:
    """Attach to the cluster at `address` (or `$RAY_ADDRESS`), or start one of at least `cpus` logical CPUs here and stop it at the end."""
    for name, value in {**_TRAIN_ENVIRONMENT, **_QUIET}.items():
        os.environ.setdefault(name, value)
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    if address:
        _attach(address)
    else:
        _start(cpus, home, dashboard=dashboard)
    try:
        yield
    finally:
        ray.shutdown()


def _attach(address: str) -> None:
    if address != "auto":
        _require_listener(address)
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError) as error:
        raise ClusterUnreachable(f"no Ray cluster answers at {address}: {error}") from error


def _require_listener(address: str) -> None:
    """A wrong address fails at once instead of after Ray's own patience."""
    parsed = urlparse(address if "//" in address else f"//{address}")
    try:
        socket.create_connection((parsed.hostname or "", parsed.port or 6379), timeout=3).close()
    except (OSError, ValueError) as error:
        raise ClusterUnreachable(f"nothing listens at {address} ({error}); `ray start --head` starts a cluster, and --address takes its host:port") from error


def _start(cpus: int, home: Path, *, dashboard: bool) -> None:
    """A cluster in this process's machine. Logical CPUs may exceed cores: data tasks and workers share them."""
    _own_token(home)
    count = max(cpus, os.cpu_count() or 1)
    ray.init(address="local", num_cpus=count, include_dashboard=dashboard, log_to_driver=False, configure_logging=False)


def _own_token(home: Path) -> None:
    """Token authentication with a token of this home, unless the user has set another."""
    if "RAY_AUTH_MODE" in os.environ:
        return
    import secrets

    path = home / "ray-token"
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ.setdefault("RAY_AUTH_TOKEN_PATH", str(path))
