"""[R] The trials of a search as a live table on stderr: drawn anew on a terminal, a line for each end elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray.tune import Callback

from dlsvc.data.progress import say

if TYPE_CHECKING:
    from rich.table import Table

# Evaluations come every few seconds, so the table is drawn when one does, and otherwise this often for the clock.
REFRESH_PER_S = 2


class TrialTable(Callback):
    """A row a trial: what it tries, how far it is, its newest score. Tune calls the `on_...` methods."""

    def __init__(self, metric: str, mode: str, total: int, *, show: bool = True) -> None:
        self.metric, self.total, self.show = metric, total, show
        self.better = max if mode == "max" else min
        self.rows: dict[str, dict[str, Any]] = {}
        self.live: Any = None

    def setup(self, **_: Any) -> None:
        if self.show and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            console = Console(file=sys.stderr)
            self.live = Live(get_renderable=self.draw, console=console, refresh_per_second=REFRESH_PER_S)
            self.live.start()

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        self._row(trial)

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Mapping[str, Any], **_: Any) -> None:
        self._row(trial).update(step=result.get("step"), score=result.get(self.metric))

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        last = trial.last_result or {}
        ended = "failed" if last.get("error") else "finished" if last.get("model") else "stopped early"
        self._end(trial, ended, str(last.get("error", "")))

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        self._end(trial, "failed", "")

    def on_experiment_end(self, trials: Any, **_: Any) -> None:
        if self.live is not None:
            self.live.stop()

    def _row(self, trial: Any) -> dict[str, Any]:
        fresh = {"config": dict(trial.config), "state": "running", "step": None, "score": None, "began": time.time()}
        return self.rows.setdefault(trial.trial_id, fresh)

    def _end(self, trial: Any, state: str, reason: str) -> None:
        row = self._row(trial)
        row.update(state=state, seconds=time.time() - row["began"])
        if self.show and self.live is None:
            ended = sum("seconds" in other for other in self.rows.values())
            why = f": {reason}" if reason else ""
            say(f"trial {ended} of {self.total}  {state}  {self._score(row)}  {_config(row['config'])}{why}")

    def _score(self, row: Mapping[str, Any]) -> str:
        return f"{self.metric} {row['score']:.4g}" if isinstance(row["score"], float) else f"{self.metric} -"

    def draw(self) -> Table:
        """The table as it stands; the best score so far is bold."""
        from rich.table import Table

        scores = [row["score"] for row in self.rows.values() if row["score"] is not None]
        best = self.better(scores) if scores else None
        paths = sorted({path for row in self.rows.values() for path in row["config"]})
        ended = sum("seconds" in row for row in self.rows.values())
        table = Table(title=f"{ended} of {self.total} trials ended", title_justify="left")
        for name in ("trial", *paths, "step", self.metric, "seconds", "state"):
            table.add_column(name, justify="left" if name in ("trial", "state") else "right")
        for number, row in enumerate(self.rows.values(), start=1):
            values = [_short(row["config"].get(path)) for path in paths]
            seconds = f"{row.get('seconds', time.time() - row['began']):.0f}"
            style = "bold" if best is not None and row["score"] == best else None
            cells = (str(number), *values, _short(row["step"]), _short(row["score"]), seconds, row["state"])
            table.add_row(*cells, style=style)
        return table


def _config(config: Mapping[str, Any]) -> str:
    return " ".join(f"{path}={_short(value)}" for path, value in config.items())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)
