"""[R] Start a server on this machine or a cluster, and stop it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from dlsvc.environment import prepare
from dlsvc.errors import RunFailed, UsageError
from dlsvc.spec.schema import ServeSpec
from dlsvc.store.models import ModelStore
from serving.ingress import fast_ingress

READY_TIMEOUT_S = 120
# Logical CPUs for Serve's own actors and the gateway, beside the models'.
_SPARE_CPUS = 2


def serve_until_stopped(spec: ServeSpec, *, home: Path, address: str | None) -> None:
    """Serve, and say where on stderr, until SIGINT or SIGTERM."""
    with _ray_for(spec, home, address), _until_signal(), _application(spec, home) as url:
        for item in spec.models:
            print(f"{url}/models/{item.model.partition('@')[0]}  serves {item.model}", file=sys.stderr)
        threading.Event().wait()


@contextlib.contextmanager
def server(spec: ServeSpec, *, home: Path, address: str | None = None) -> Iterator[str]:
    """Serve while the block runs; gives the base URL once every model answers."""
    with _ray_for(spec, home, address), _application(spec, home) as url:
        yield url


@contextlib.contextmanager
def _ray_for(spec: ServeSpec, home: Path, address: str | None) -> Iterator[None]:
    """The Ray that is there, or one of our own; before that starts, what can be known to go wrong."""
    prepare(home)
    for item in spec.models:
        ModelStore(home).resolve(item.model)
    address = address or os.environ.get("RAY_ADDRESS")
    import ray

    # A cluster that runs already has the ingress that it was started with.
    is_ours = address is None and not ray.is_initialized()
    if is_ours:
        require_free(spec.host, spec.port)
    with fast_ingress() if is_ours else contextlib.nullcontext():
        from dlsvc.cluster import cluster

        with cluster(address, cpus=_SPARE_CPUS + sum(item.replicas for item in spec.models)) as may_grow:
            require_gpus(spec, may_grow=may_grow)
            yield


def require_gpus(spec: ServeSpec, *, may_grow: bool) -> None:
    """Serve waits for GPUs that aren't there, without a word. Raises UsageError where they can't come."""
    import ray

    from dlsvc.cluster import gpus_for

    asked = gpus_for([item.gpu for item in spec.models for _ in range(item.replicas)])
    found = ray.cluster_resources().get("GPU", 0)
    if asked > found and not may_grow:
        raise UsageError(
            f"the models ask for {asked} GPUs, and this machine has {found:g}: ask for less, or give --address of a "
            "cluster that has them"
        )


@contextlib.contextmanager
def _application(spec: ServeSpec, home: Path) -> Iterator[str]:
    from ray import serve

    from serving.app import build_app

    app = build_app(spec, home)
    _listen(spec)
    try:
        serve.run(app, name=spec.name, route_prefix="/")
        wait_until_ready(url_of(spec))
        yield url_of(spec)
    finally:
        serve.delete(spec.name)


def _listen(spec: ServeSpec) -> None:
    """Start the cluster's Serve where the spec says. A cluster has one Serve, which keeps the host and port that it was
    started with; Ray would ignore others with a warning.
    """
    import ray
    from ray import serve
    from ray.serve.context import _get_global_client

    running = _get_global_client(raise_if_no_controller_running=False)
    if running is not None:
        host, port = running.http_config.host, running.http_config.port
        if (host, port) != (spec.host, spec.port):
            raise UsageError(
                f"can't listen on {spec.host}:{spec.port}: this cluster's Serve listens on {host}:{port}; "
                "serve there, or on a cluster of its own"
            )
        return
    try:
        serve.start(proxy_location="HeadOnly", http_options={"host": spec.host, "port": spec.port})
    except ray.exceptions.RayTaskError as error:
        serve.shutdown()
        if "bind" not in str(error):
            raise
        raise UsageError(f"can't listen on {spec.host}:{spec.port}; choose another port") from error


def url_of(spec: ServeSpec) -> str:
    """Where a client on this machine finds the server."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(spec.host, spec.host)
    return f"http://{host}:{spec.port}"


def require_free(host: str, port: int) -> None:
    """Raises UsageError when the port can't be listened on: Serve would find out after seconds, and say it in a log."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise UsageError(
            f"can't listen on {host}:{port} ({error.strerror}); choose another --port or --host"
        ) from error


def wait_until_ready(url: str, *, timeout_s: float = READY_TIMEOUT_S) -> None:
    """Until `/health/ready` answers 200."""
    deadline = time.monotonic() + timeout_s
    while not is_ready(url):
        if time.monotonic() > deadline:
            raise RunFailed(f"{url} did not become ready in {timeout_s:g} s")
        time.sleep(0.1)


def is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health/ready", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


@contextlib.contextmanager
def _until_signal() -> Iterator[None]:
    """SIGINT or SIGTERM ends the block, also while it still starts. Goes around it after Ray has started, whose own
    handlers would end the process at once; a second signal must not cut the stopping short."""

    def stop(number: int, frame: FrameType | None) -> None:
        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    with contextlib.suppress(KeyboardInterrupt):
        yield
