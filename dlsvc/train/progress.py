"""A live progress bar on stderr, drawn from what the run writes: works wherever the workers are."""

from __future__ import annotations

import sys
import threading
from types import TracebackType

from dlsvc.store.runs import Run

REFRESH_S = 0.2


class Progress:
    """Follows a run's metrics while the block runs."""

    def __init__(self, run: Run, total_steps: int, *, show: bool) -> None:
        self.run, self.total, self.show = run, total_steps, show
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

    def _update(self, bar: object, task: object) -> None:
        records = self.run.lines("metrics.jsonl")
        if not records:
            return
        latest = records[-1]
        restarts = self.run.restarts()
        facts = f"loss {latest['loss']:.4f}  {latest['samples_per_s']:.0f} samples/s" + (
            f"  restarts {restarts}" if restarts else ""
        )
        bar.update(task, completed=latest["step"], facts=facts)  # type: ignore[attr-defined]
