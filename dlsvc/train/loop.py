"""The loop: short, flat, and the same for every strategy, task and feed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dlsvc.data.feed_resident import Round
from dlsvc.data.plan import Plan, fingerprint
from dlsvc.data.tensors import to_tensors
from dlsvc.engine.base import Engine
from dlsvc.engine.check import check_ranks
from dlsvc.errors import RunCancelled
from dlsvc.tasks.base import Task
from dlsvc.train.meter import Meter
from dlsvc.train.objective import Atom, run_phase

# Ranks are compared after the first step and then this often.
CHECK_EVERY = 50


@dataclass
class Hooks:
    """What happens around steps; each is called by all ranks at the same step."""

    save: Callable[[int], None]
    evaluate: Callable[[int], None]
    record: Callable[[dict[str, object]], None]
    is_cancelled: Callable[[], bool]


@dataclass(frozen=True)
class Pace:
    """How often, in steps."""

    total: int
    save: int
    report: int
    evaluate: int | None = None

    def is_due(self, step: int, every: int | None) -> bool:
        return every is not None and (step % every == 0 or step == self.total)


@dataclass
class Loop:
    engine: Engine
    task: Task
    plan: Plan
    pace: Pace
    hooks: Hooks
    meter: Meter = field(init=False)

    def __post_init__(self) -> None:
        self.meter = Meter(self.engine.place.device)

    def fit(self, feed: Iterator[Round], start: int) -> None:
        """Train from step `start` to the end of the budget. Order matters: a record and a check come before the save
        that would keep them.
        """
        rounds = len(self.plan.assignment(self.engine.place.rank, self.engine.place.world_size))
        for step in range(start, self.pace.total):
            atoms = [self._atom(step, feed) for _ in range(rounds)]
            watched = _is_checked(step + 1, start)
            for phase in self.task.phases:
                run_phase(self.engine, self.task, atoms, phase=phase, step=step, meter=self.meter, watched=watched)
                self.engine.step(phase, step)
            self._after(step + 1, start)

    def _atom(self, step: int, feed: Iterator[Round]) -> Atom:
        began = time.perf_counter()
        at, index, arrays = next(feed)
        self.meter.waited_s += time.perf_counter() - began
        assert at == step, f"the feed is at step {at}, the model at step {step}"
        if index is not None:
            self.meter.count(len(arrays["id"]), fingerprint(arrays["position"], arrays["id"]))
        share = self.plan.micro_size / self.plan.global_size if index is not None else 0.0
        return Atom(index, share, to_tensors(arrays, self.engine.place.device))

    def _after(self, step: int, start: int) -> None:
        """Steps done: report, check, save, evaluate, and stop if asked to."""
        self.meter.steps += 1
        cancelled = False
        if _is_checked(step, start):
            check_ranks(self.engine, step)
        is_saved = self.pace.is_due(step, self.pace.save) or self.pace.is_due(step, self.pace.evaluate)
        if is_saved or self.pace.is_due(step, self.pace.report) or step == start + 1:
            record, cancelled = self.meter.flush(step, cancelled=self.hooks.is_cancelled())
            self.hooks.record({**record, "epoch": step * self.plan.global_size / self.plan.num_samples})
        if cancelled or is_saved:
            self.hooks.save(step)
        if self.pace.evaluate is not None and self.pace.is_due(step, self.pace.evaluate):
            self.hooks.evaluate(step)
        if cancelled and step < self.pace.total:
            raise RunCancelled(f"cancelled at step {step}; the same command resumes it")


def _is_checked(step: int, start: int) -> bool:
    return step == start + 1 or step % CHECK_EVERY == 0
