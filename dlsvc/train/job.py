"""What a worker needs to know of a run: plain data that travels to any node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlsvc.data.order import Order
from dlsvc.data.plan import Plan
from dlsvc.spec.schema import TrainSpec
from dlsvc.store.runs import Run


@dataclass(frozen=True)
class Job:
    """A resolved spec, its run directory, and what the data turned out to be."""

    spec: TrainSpec
    identity: str
    run_path: str
    home: str
    preprocess: Mapping[str, Any]
    classes: tuple[str, ...]
    order: Order
    data_fingerprint: str
    feed: str
    # The file that the training split's images have been encoded to, when they are encoded once.
    encoded: str | None = None

    @property
    def run(self) -> Run:
        return Run(Path(self.run_path))

    @property
    def micro_size(self) -> int:
        assert isinstance(self.spec.batch.micro_size, int), "micro_size is resolved before a job is made"
        return self.spec.batch.micro_size

    @property
    def plan(self) -> Plan:
        return Plan(self.spec.seed, self.order, self.spec.batch.global_size, self.micro_size)

    @property
    def total_steps(self) -> int:
        """The budget in steps; epochs end with the step that holds their last sample."""
        budget = self.spec.budget
        if budget.steps is not None:
            return budget.steps
        assert budget.epochs is not None
        return -(-budget.epochs * len(self.order) // self.spec.batch.global_size)
