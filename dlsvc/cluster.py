"""[R] A Ray cluster to run on: this machine's own, started with the process, or one at an address."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlparse

import ray

from dlsvc.errors import ClusterUnreachable, Refused


@contextlib.contextmanager
def cluster(address: str | None, *, cpus: int, dashboard: bool = False) -> Iterator[bool]:
    """Attach to the cluster at `address` (or `$RAY_ADDRESS`), or start one of at least `cpus` logical CPUs here and
    stop it at the end. Gives whether nodes may still join it: one of our own stays this machine.
    """
    if ray.is_initialized():
        yield True
        return
    address = address or os.environ.get("RAY_ADDRESS")
    if address:
        _attach(address)
    else:
        _start(cpus, dashboard=dashboard)
    try:
        yield bool(address)
    finally:
        ray.shutdown()


def lacking(count: int, each: Mapping[str, float], found: Mapping[str, float]) -> str | None:
    """What a cluster with the resources `found` lacks of `count` workers' own; None where it has all."""
    whole = {name: amount * count for name, amount in each.items()} | {"GPU": gpus_for([each.get("GPU", 0)] * count)}
    short = {name: amount for name, amount in whole.items() if amount > found.get(name, 0)}
    if not short:
        return None
    wanted = ", ".join(f"{amount:g} {name}" for name, amount in short.items())
    there = ", ".join(f"{found.get(name, 0):g}" for name in short)
    who = f"{count} workers ask" if count > 1 else "a worker asks"
    return f"{who} for {wanted}, and there are {there}"


def gpus_for(shares: Sequence[float]) -> int:
    """How many GPUs hold processes that each ask for a share of one: none is cut in two. By first fit, the largest
    first.
    """
    left: list[float] = []
    for share in sorted(shares, reverse=True):
        # What Ray counts in: ten thousandths.
        place = next((place for place, free in enumerate(left) if round(free - share, 4) >= 0), None)
        if place is None:
            left.append(1.0 - share)
        else:
            left[place] -= share
    return len(left) if any(shares) else 0


def _attach(address: str) -> None:
    if address != "auto":
        _require_listener(address)
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except ray.exceptions.AuthenticationError as error:
        raise Refused(f"{address} refused the token; set RAY_AUTH_TOKEN_PATH to the cluster's: {error}") from error
    except (ConnectionError, RuntimeError) as error:
        raise ClusterUnreachable(f"no Ray cluster answers at {address}: {error}") from error


def _require_listener(address: str) -> None:
    """A wrong address fails at once instead of after Ray's own patience."""
    parsed = urlparse(address if "//" in address else f"//{address}")
    try:
        socket.create_connection((parsed.hostname or "", parsed.port or 6379), timeout=3).close()
    except (OSError, ValueError) as error:
        raise ClusterUnreachable(
            f"nothing listens at {address} ({error}); "
            "`ray start --head` starts a cluster, and --address takes its host:port"
        ) from error


def _start(cpus: int, *, dashboard: bool) -> None:
    """A cluster in this process's machine. Logical CPUs may exceed cores: data tasks and workers share them."""
    count = max(cpus, os.cpu_count() or 1)
    quiet = {"log_to_driver": False, "configure_logging": False}
    try:
        ray.init(address="local", num_cpus=count, include_dashboard=dashboard, **quiet)
    except Exception as error:
        # Ray raises a bare Exception when its processes don't answer in time.
        raise ClusterUnreachable(
            f"Ray didn't start on this machine: {error} (is it very busy, or out of memory or of space in /tmp?)"
        ) from error
