"""A live progress bar on stderr, drawn from what the run writes: works wherever the workers are."""

from __future__ import annotations

import json
import sys
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any

from dlsvc.store.runs import Run

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

REFRESH_S = 0.2


class Progress:
    """Follows a run's metrics while the block runs."""

    def __init__(self, run: Run, total_steps: int, *, show: bool) -> None:
        self.run, self.total, self.show = run, total_steps, show
        self.read = 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._draw, daemon=True)

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
        restarts = self.run.restarts()
        facts = f"loss {latest['loss']:.4f}  {latest['samples_per_s']:.0f} samples/s"
        bar.update(task, completed=latest["step"], facts=facts + (f"  restarts {restarts}" if restarts else ""))

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
