"""[R] The stream feed: Ray Data builds atoms on CPU nodes, in the order of the plan, while the trainers train.

`DataConfig.configure` runs at every start of the worker group, so the pipeline begins where the newest good
checkpoint ends, for whatever number of workers
there is. A row is an atom; blocks hold equal numbers of rows, and block j goes to rank j mod n.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data
from ray.data import DataIterator
from ray.train import DataConfig

from dlsvc.data.atom import Arrays, AtomBuilder
from dlsvc.data.feed_resident import Round
from dlsvc.data.plan import Plan

# Steps that a block holds for its rank: enough that moving blocks costs little, few enough that the first batch comes
# soon.
STEPS_PER_BLOCK = 4


@dataclass(frozen=True)
class StreamSource:
    """How any node makes the builder, and where a run stands; both are called on the cluster."""

    plan: Plan
    total_steps: int
    builder: Callable[[], AtomBuilder]
    cursor: Callable[[], int]
    actors: int = 1


class BuildAtoms:
    """An actor that turns rows (step, atom) into atoms."""

    def __init__(self, source: StreamSource) -> None:
        self.builder = source.builder()

    def __call__(self, rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        places = list(zip(rows["step"].tolist(), rows["atom"].tolist(), strict=True))
        atoms = [self.builder.build(step, max(atom, 0)) for step, atom in places]
        stacked = {name: np.stack([atom[name] for atom in atoms]) for name in atoms[0]}
        return {"step": rows["step"], "atom": rows["atom"], **stacked}


class PlannedData(DataConfig):
    """Splits the plan, not the rows: each rank gets the atoms that are its own."""

    def __init__(self, source: StreamSource) -> None:
        super().__init__()
        self.source = source

    def configure(
        self, datasets: Any, world_size: int, worker_handles: Any = None, worker_node_ids: Any = None, **_: Any
    ) -> list[dict[str, DataIterator]]:
        start = self.source.cursor()
        blocks = list(_blocks(self.source.plan, start, self.source.total_steps, world_size))
        pool = ray.data.ActorPoolStrategy(size=self.source.actors)
        arguments = {"fn_constructor_args": (self.source,), "batch_size": None, "num_cpus": 0.25, "compute": pool}
        dataset = ray.data.from_arrow(blocks or [_table([], [])]).map_batches(BuildAtoms, **arguments)
        dataset.context.execution_options.preserve_order = True
        dataset.context.enable_progress_bars = False
        return [{"train": split} for split in dataset.streaming_split(world_size, equal=False)]


def _blocks(plan: Plan, start: int, stop: int, world_size: int) -> Iterator[pa.Table]:
    """For each few steps, one block a rank; atom -1 keeps a rank short of atoms in step."""
    assignments = [plan.assignment(rank, world_size) for rank in range(world_size)]
    for first in range(start, stop, STEPS_PER_BLOCK):
        steps = range(first, min(first + STEPS_PER_BLOCK, stop))
        for atoms in assignments:
            places = [(step, -1 if atom is None else atom) for step in steps for atom in atoms]
            yield _table([step for step, _ in places], [atom for _, atom in places])


def _table(steps: list[int], atoms: list[int]) -> pa.Table:
    return pa.table({"step": pa.array(steps, pa.int64()), "atom": pa.array(atoms, pa.int64())})


def stream_feed(shard: DataIterator, start: int) -> Iterator[Round]:
    """(step, atom or None, arrays) of this rank, in order."""
    for rows in shard.iter_batches(batch_size=1, prefetch_batches=4):
        step, atom = int(rows["step"][0]), int(rows["atom"][0])
        arrays: Arrays = {
            name: np.ascontiguousarray(column[0]) for name, column in rows.items() if name not in ("step", "atom")
        }
        yield step, None if atom < 0 else atom, arrays
