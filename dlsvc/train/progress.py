"""A run's progress on stderr, read from what it writes, so it works wherever the workers are: a live bar on a terminal,
a line now and then elsewhere (a job's log).
"""

from __future__ import annotations

import json
import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from dlsvc.data.progress import say
from dlsvc.store.runs import Run

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

REFRESH_S = 0.2
LINE_EVERY_S = 10.0


class Progress:
    """Follows a run's metrics while the block runs."""

    def __init__(self, run: Run, total_steps: int, *, show: bool) -> None:
        self.run, self.total, self.show = run, total_steps, show
        self.read = 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._draw if sys.stderr.isatty() else self._tell, daemon=True)

    def __enter__(self) -> Progress:
        if self.show:
            self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop.set()
        if self.show:
            self.thread.join()

    def _tell(self) -> None:
        """Lines; the first as soon as there is a record, so that somebody who waits sees that it works."""
        said_at = 0.0
        while not self.stop.wait(REFRESH_S):
            if time.monotonic() - said_at >= LINE_EVERY_S and (latest := self._latest()):
                said_at = time.monotonic()
                left = (self.total - latest["step"]) * latest["seconds_per_step"]
                say(f"{self.run.name}: step {latest['step']} of {self.total}, {self._facts(latest)}, {left:.0f} s left")

    def _facts(self, latest: dict[str, Any]) -> str:
        restarts = self.run.restarts()
        facts = f"loss {latest['loss']:.4f}, {latest['samples_per_s']:.0f} samples/s"
        return facts + (f", restarts {restarts}" if restarts else "")

    def _draw(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        facts = TextColumn("{task.fields[facts]}")
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            facts,
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Bar(*columns, console=Console(file=sys.stderr)) as bar:
            task = bar.add_task(self.run.name, total=self.total, facts="starting workers")
            while not self.stop.wait(REFRESH_S):
                self._update(bar, task)
            self._update(bar, task)

    def _update(self, bar: Bar, task: TaskID) -> None:
        latest = self._latest()
        if latest is None:
            return
        bar.update(task, completed=latest["step"], facts=self._facts(latest))

    def _latest(self) -> dict[str, Any] | None:
        """The newest whole record; only what was written since the last look is read."""
        path = self.run.path / "metrics.jsonl"
        if not path.exists():
            return None
        with path.open("rb") as stream:
            stream.seek(self.read)
            fresh = stream.read()
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self.read += len(whole)
        return dict(json.loads(whole.splitlines()[-1])) if whole else None
