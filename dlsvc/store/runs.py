"""Runs on disk: a directory each, written by the run and read by anybody, with no service in between.

HOME/runs/NAME/
    spec.json         the resolved spec: what the run is a function of
    status.json       running | finished | failed | cancelled, by which process or job
    driver.lock       held by that process while it lives, and as new as its last sign of life
    attempts.jsonl    one line each time the workers start: world size, first step, checkpoints passed over and why
    metrics.jsonl     one line each `report.every_steps`
    quarantine.jsonl  samples that could not be decoded
    log.txt           what the workers say
    checkpoints/  tb/  report.html  result.json
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlsvc.data.lock import locked
from dlsvc.errors import DlsvcError, NotFound, Refused, UsageError, did_you_mean
from dlsvc.store import driver

_JOURNALS = ("attempts.jsonl", "metrics.jsonl", "evaluations.jsonl", "quarantine.jsonl", "log.txt")
_FOLLOW_S = 0.5

# As a spec's names, and with an underscore, which a trial's name has from Ray.
_NAME = re.compile(r"[a-z0-9_-]{1,63}")

# What a restart can't mend; its presence ends the run.
FATAL = "fatal.json"

FINISHED, RUNNING, FAILED, CANCELLED = "finished", "running", "failed", "cancelled"


@dataclass(frozen=True)
class Run:
    """One run's directory."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def read(self, document: str) -> dict[str, Any]:
        """A JSON document of the run, empty when it isn't there yet."""
        path = self.path / document
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}

    def write(self, document: str, content: Mapping[str, Any]) -> None:
        draft = self.path / f".{document}.{uuid.uuid4().hex}"
        draft.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
        os.replace(draft, self.path / document)

    def condemn(self, error: DlsvcError) -> None:
        """Write down a fault that a restart can't mend. The first of many who may find it says what it was."""
        if not self.condemned:
            self.write(FATAL, {"kind": type(error).__name__, "message": str(error), "exit_code": error.exit_code})

    @property
    def condemned(self) -> bool:
        return (self.path / FATAL).exists()

    def append(self, journal: str, record: Mapping[str, Any]) -> None:
        with (self.path / journal).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record, sort_keys=True) + "\n")

    def lines(self, journal: str) -> list[dict[str, Any]]:
        """The records of a journal; a line cut short by a kill is left out."""
        path = self.path / journal
        if not path.exists():
            return []
        return [
            json.loads(line) for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if _whole(line)
        ]

    def story(self, *, follow: bool = False) -> Iterator[str]:
        """The records of every journal in the order of writing, as lines for a person; to the run's end if followed."""
        seen = dict.fromkeys(_JOURNALS, 0)
        while True:
            status = self.status()["status"]
            for journal in _JOURNALS:
                records = self.lines(journal)
                for record in records[seen[journal] :]:
                    yield f"{journal.partition('.')[0]:<11} {json.dumps(record)}"
                seen[journal] = len(records)
            if not follow or status != RUNNING:
                return
            time.sleep(_FOLLOW_S)

    def trajectory(self) -> list[dict[str, Any]]:
        """Metrics as they count: where steps were redone after a restart, the redo."""
        kept: list[dict[str, Any]] = []
        for record in self.lines("metrics.jsonl"):
            while kept and kept[-1]["step"] > record["first_step"]:
                kept.pop()
            kept.append(record)
        return kept

    def status(self) -> dict[str, Any]:
        """The status, corrected when the driver is gone without a word."""
        found = self.read("status.json") or {"status": "unknown"}
        if found["status"] == RUNNING and not driver.is_alive(found, self.path):
            return {**found, "status": FAILED, "message": "the driver is gone; rerun the same command to resume"}
        return found

    def mark(self, status: str, message: str = "") -> None:
        self.write("status.json", {"status": status, "message": message, "time": time.time(), **driver.this_process()})

    def restarts(self) -> int:
        return max(0, len(self.lines("attempts.jsonl")) - 1)

    def summary(self) -> dict[str, Any]:
        """One row for `runs ls` and `runs show`."""
        records, spec = self.trajectory(), self.read("spec.json")
        latest = records[-1] if records else {}
        status = self.status()
        row = {"run": self.name, "status": status["status"], "message": status.get("message", "")}
        row |= {
            "model": spec.get("model", {}).get("name"),
            "data": spec.get("data", {}).get("source"),
            "strategy": spec.get("strategy"),
        }
        return row | {
            "step": latest.get("step", 0),
            "loss": latest.get("loss"),
            "restarts": self.restarts(),
            "path": str(self.path),
        }


class RunStore:
    def __init__(self, home: Path) -> None:
        self.root = home / "runs"

    def names(self) -> list[str]:
        found = (path.parent.name for path in self.root.glob("*/spec.json"))
        return sorted(name for name in found if _NAME.fullmatch(name))

    def open(self, name: str) -> Run:
        if not self.exists(name):
            raise NotFound(f"no run is called {name!r}{did_you_mean(name, self.names())}")
        return Run(self.root / name)

    def exists(self, name: str) -> bool:
        check_run_name(name)
        return (self.root / name / "spec.json").exists()

    def begin(self, name: str, resolved: Mapping[str, Any], identity: str) -> Run:
        """A new run, or the one of that name if its trajectory is the same. Raises Refused where it isn't."""
        if not self.exists(name):
            self._create(name, {**resolved, "identity": identity})
        run = self.open(name)
        before = run.read("spec.json")
        if before["identity"] != identity:
            changes = "\n".join(f"  {line}" for line in differences(before, dict(resolved)))
            raise Refused(f"run {name!r} exists with another spec; choose another --name\n{changes}")
        status = run.status()
        if status["status"] == RUNNING:
            whose = f"process {status['pid']} on {status['host']}"
            raise Refused(f"run {name!r} is running ({whose}); `dlsvc runs cancel {name}` stops it")
        return run

    def _create(self, name: str, spec: Mapping[str, Any]) -> None:
        """Make a run's directory; of two that begin it at once, the second finds the spec of the first."""
        with locked(self.root / ".begin"):
            if not self.exists(name):
                run = Run(self.root / name)
                run.path.mkdir(exist_ok=True)
                run.write("spec.json", spec)

    def cancel(self, name: str) -> Run:
        """Ask a run to stop at its next report; its checkpoints stay, so it can be resumed."""
        run = self.open(name)
        status = run.status()
        if status["status"] != RUNNING:
            raise Refused(f"run {name!r} is not running, it is {status['status']}")
        (run.path / "CANCEL").touch()
        if driver.is_here(status):
            # It may have ended since, or be another user's; its workers look for the file as well.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(int(status["pid"]), signal.SIGTERM)
        return run


def check_run_name(name: str) -> None:
    """Raises UsageError for what can't be a run's name: it is a directory's, and others would lie elsewhere."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} can't be a run's name; use 1 to 63 of a-z, 0-9, _ and -")


def differences(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """`path: old -> new` for every leaf that differs."""
    for key in sorted((before.keys() | after.keys()) - {"identity"}):
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key}: {json.dumps(old)} -> {json.dumps(new)}"


def _whole(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
