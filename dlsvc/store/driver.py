"""Who drives a run, and whether they still do.

A driver holds a lock on a file of the run's directory for as long as it lives, so a run has one. On its own host others
tell that it lives by its process; elsewhere by that file's time, which it renews.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dlsvc.data.lock import locked
from dlsvc.errors import Refused

_LOCK = "driver.lock"
_BEAT_S = 15.0
# Of a driver on another host: longer than a network file system keeps a file's time to itself, or a busy host sleeps.
SILENT_S = 180.0


@contextlib.contextmanager
def driving(folder: Path) -> Iterator[None]:
    """A run's directory for this process alone, as its driver. Raises Refused when another has it."""
    with contextlib.ExitStack() as held:
        try:
            stream = held.enter_context(locked(folder / _LOCK, wait=False))
        except BlockingIOError:
            raise Refused(f"run {folder.name!r} is running: another process has just begun it") from None
        ended = threading.Event()
        # Before anybody is told that the run is driven.
        os.utime(stream.fileno())
        beat = threading.Thread(target=_beat, args=(stream.fileno(), ended), daemon=True)
        beat.start()
        try:
            yield
        finally:
            ended.set()
            beat.join()


def this_process() -> dict[str, Any]:
    """What tells this process from every other, as facts for a run's status."""
    return {"pid": os.getpid(), "host": os.uname().nodename, "began": _began(_stat(os.getpid()))}


def is_here(facts: Mapping[str, Any]) -> bool:
    return bool(facts.get("host") == os.uname().nodename)


def is_alive(facts: Mapping[str, Any], folder: Path) -> bool:
    """Whether the driver of these facts still drives the run in this folder."""
    return _is_process(facts) if is_here(facts) else _silence_s(folder) < SILENT_S


def _beat(handle: int, ended: threading.Event) -> None:
    while not ended.wait(_BEAT_S):
        # A file system that is away for a while is not the driver's end.
        with contextlib.suppress(OSError):
            os.utime(handle)


def _silence_s(folder: Path) -> float:
    """Since the driver's last sign of life."""
    try:
        # Opened, so that a network file system asks its server.
        with (folder / _LOCK).open("rb") as stream:
            return _now(folder) - os.fstat(stream.fileno()).st_mtime
    except FileNotFoundError:
        return float("inf")


def _now(folder: Path) -> float:
    """By the file system's clock, which may differ from this host's; by this host's where it may not write."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            return os.fstat(probe.fileno()).st_mtime
    except OSError:
        return time.time()


def _is_process(facts: Mapping[str, Any]) -> bool:
    """Whether the process is there and not a later one of the same number, such as 1 in a container."""
    pid = int(facts["pid"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    stat = _stat(pid)
    is_other = None not in (facts.get("began"), _began(stat)) and facts["began"] != _began(stat)
    # A zombie has ended, and waits for its parent to hear of it.
    return not is_other and stat[:1] != ["Z"]


def _began(stat: list[str]) -> int | None:
    """In the kernel's ticks since it started; None where it doesn't say."""
    return int(stat[19]) if stat else None


def _stat(pid: int) -> list[str]:
    """What /proc says of a process from its state on, which is the third field; nothing where there is no /proc."""
    try:
        said = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    # The second field is the command's name in brackets, which may itself hold spaces and brackets.
    return said.rpartition(")")[2].split()
