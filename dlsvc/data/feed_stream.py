"""[R] The stream feed: Ray Data builds atoms on CPU nodes, in the order of the plan, while the trainers train.

`DataConfig.configure` runs at every start of the worker group, so the pipeline begins where the newest good checkpoint
ends, for whatever number of workers there is. A row is an atom; a block holds some steps of one rank, and block j goes
to rank j mod n.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from ray.data import DataIterator
from ray.train import DataConfig

from dlsvc.data.atom import AtomBuilder
from dlsvc.data.feed_resident import Round
from dlsvc.data.plan import Plan
from dlsvc.errors import DlsvcError
from dlsvc.spec.data_sections import StreamSpec

# Blocks begin small, so that the first batch comes soon, and double up to what moves well between nodes, but not beyond
# what an actor builds in a moment: a block is what is built at once, moved at once, and built again when it is lost.
FIRST_STEPS = 4
BLOCK_BYTES = 16 * 2**20
BLOCK_S = 1.0

_ACCELERATOR = "ray.io/accelerator-type"


@dataclass(frozen=True)
class StreamSource:
    """How any node makes the builder, where a run stands, and who must know of a fault that a restart can't mend; all
    are called on the cluster.
    """

    plan: Plan
    total_steps: int
    builder: Callable[[], AtomBuilder]
    cursor: Callable[[], int]
    condemn: Callable[[DlsvcError], None]
    settings: StreamSpec


class BuildAtoms:
    """An actor that turns rows (step, atom) into atoms."""

    def __init__(self, source: StreamSource) -> None:
        self.source, self.builder = source, source.builder()

    def __call__(self, rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            return self._built(rows)
        except DlsvcError as error:
            # On its way through Ray Data an error becomes text; what it is must reach the driver otherwise.
            self.source.condemn(error)
            raise

    def _built(self, rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        places = [(step, max(atom, 0)) for step, atom in zip(rows["step"].tolist(), rows["atom"].tolist(), strict=True)]
        if not places:
            return {"step": rows["step"], "atom": rows["atom"]}
        whole = self.builder.build_all(places)
        # A row is an atom: an axis more, and no copy.
        atoms = {name: array.reshape(len(places), -1, *array.shape[1:]) for name, array in whole.items()}
        return {"step": rows["step"], "atom": rows["atom"], **atoms}


class PlannedData(DataConfig):
    """Splits the plan, not the rows: each rank gets the atoms that are its own."""

    def __init__(self, source: StreamSource) -> None:
        super().__init__()
        self.source = source

    def configure(
        self, datasets: Any, world_size: int, worker_handles: Any = None, worker_node_ids: Any = None, **_: Any
    ) -> list[dict[str, DataIterator]]:
        start, settings = self.source.cursor(), self.source.settings
        blocks = list(_blocks(self.source, start, world_size))
        selector, cpus = where(ray.nodes(), dict(settings.labels), world_size)
        arguments: dict[str, Any] = {"label_selector": selector} if selector else {}
        # Not from_arrow, which looks at each block in a task of a whole CPU: that waits forever where none is free.
        dataset = ray.data.from_blocks(blocks or [_table([], [])]).map_batches(
            BuildAtoms,
            fn_constructor_args=(self.source,),
            batch_size=None,
            num_cpus=settings.cpu,
            compute=_pool(settings, cpus),
            **arguments,
        )
        dataset.context.execution_options.preserve_order = True
        dataset.context.enable_progress_bars = False
        return [{"train": split} for split in dataset.streaming_split(world_size, equal=False)]


def _pool(settings: StreamSpec, cpus: float | None) -> Any:
    """The actor pool; Ray Data scales it by how busy it is, on nodes of their own up to what joins later too."""
    if isinstance(settings.actors, int):
        return ray.data.ActorPoolStrategy(size=settings.actors)
    if settings.actors != "auto":
        return ray.data.ActorPoolStrategy(min_size=settings.actors.min, max_size=settings.actors.max)
    return ray.data.ActorPoolStrategy(min_size=1, max_size=None if cpus is None else max(1, int(cpus)))


def where(
    nodes: Iterable[Mapping[str, Any]], labels: dict[str, str], world_size: int
) -> tuple[dict[str, str], float | None]:
    """A label selector of the nodes that build atoms, and the CPUs that they may take: nodes with the asked labels, or
    those without GPUs where the cluster has both kinds, all that they have; else any node, less a CPU a trainer.
    """
    if labels:
        return labels, None
    alive = [node for node in nodes if node["Alive"]]
    without = [node for node in alive if not node["Resources"].get("GPU")]
    kinds = {node.get("Labels", {}).get(_ACCELERATOR) for node in alive if node not in without} - {None}
    if kinds and without:
        return {_ACCELERATOR: f"!in({','.join(sorted(kinds))})"}, None
    return {}, float(sum(node["Resources"].get("CPU", 0) for node in alive)) - world_size


def _blocks(source: StreamSource, start: int, world_size: int) -> Iterator[pa.Table]:
    """For some steps at a time, one block a rank; atom -1 keeps a rank short of atoms in step."""
    assignments = [source.plan.assignment(rank, world_size) for rank in range(world_size)]
    if start >= source.total_steps:
        return
    most = _most_steps(source.builder(), start, len(assignments[0]))
    for steps in _runs_of_steps(start, source.total_steps, most):
        for atoms in assignments:
            places = [(step, -1 if atom is None else atom) for step in steps for atom in atoms]
            yield _table([step for step, _ in places], [atom for _, atom in places])


def _most_steps(builder: AtomBuilder, step: int, num_atoms: int) -> int:
    """How many steps of `num_atoms` atoms a block may have, by building one. The first opens files and compiles."""
    builder.build(step, 0)
    began = time.perf_counter()
    atom = builder.build(step, 0)
    step_s = num_atoms * (time.perf_counter() - began)
    step_bytes = num_atoms * sum(array.nbytes for array in atom.values())
    return max(1, int(min(BLOCK_BYTES / step_bytes, BLOCK_S / step_s)))


def _runs_of_steps(start: int, stop: int, most: int) -> Iterator[range]:
    length = min(FIRST_STEPS, most)
    while start < stop:
        yield range(start, min(start + length, stop))
        start, length = start + length, min(2 * length, most)


def _table(steps: list[int], atoms: list[int]) -> pa.Table:
    return pa.table({"step": pa.array(steps, pa.int64()), "atom": pa.array(atoms, pa.int64())})


def stream_feed(shard: DataIterator, start: int) -> Iterator[Round]:
    """(step, atom or None, arrays) of this rank, in order. Arrays lie in Ray's shared memory and may only be read."""
    for block in shard.iter_batches(batch_size=None, prefetch_batches=1):
        steps, atoms = block.pop("step"), block.pop("atom")
        for place, (step, atom) in enumerate(zip(steps.tolist(), atoms.tolist(), strict=True)):
            yield step, None if atom < 0 else atom, {name: column[place] for name, column in block.items()}
