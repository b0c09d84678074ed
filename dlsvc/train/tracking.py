"""Where a run's numbers go: `metrics.jsonl` for our tools, TensorBoard events for everybody's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dlsvc.store.runs import Run

_NOT_CURVES = {"step", "first_step", "fingerprint", "time", "samples", "epoch"}


class Tracker:
    """The null tracker: what ranks other than the first use."""

    @staticmethod
    def open(run: Run, *, is_chief: bool) -> Tracker:
        return FileTracker(run) if is_chief else Tracker()

    def trained(self, record: Mapping[str, Any]) -> None:
        """A training record."""

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics of the weights at a step."""

    def close(self) -> None:
        """Nothing to flush."""


class FileTracker(Tracker):
    def __init__(self, run: Run) -> None:
        from tensorboardX import SummaryWriter

        self.run = run
        self.board = SummaryWriter(str(run.path / "tb"))

    def trained(self, record: Mapping[str, Any]) -> None:
        self.run.append("metrics.jsonl", record)
        for name, value in record.items():
            if name not in _NOT_CURVES and isinstance(value, int | float):
                self.board.add_scalar(f"train/{name}", value, record["step"])
        self.board.flush()

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        self.run.append("evaluations.jsonl", {"step": step, **metrics})
        for name, value in metrics.items():
            self.board.add_scalar(f"evaluate/{name}", value, step)

    def close(self) -> None:
        self.board.close()
