"""The resident feed: atoms built from a table in memory, a thread ahead of the training loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from dlsvc.data.atom import Arrays, AtomBuilder

Round = tuple[int, int | None, Arrays]


def resident_feed(
    builder: AtomBuilder, *, start: int, stop: int, rank: int, world_size: int, ahead: int = 4
) -> Iterator[Round]:
    """(step, atom or None, arrays) for each round of steps [start, stop), in order; a rank short of atoms gets atom 0
    as None.
    """
    atoms = builder.plan.assignment(rank, world_size)
    rounds = ((step, atom) for step in range(start, stop) for atom in atoms)
    with ThreadPoolExecutor(1, thread_name_prefix="feed") as pool:
        waiting: deque[tuple[int, int | None, Future[Arrays]]] = deque()
        for step, atom in rounds:
            waiting.append((step, atom, pool.submit(builder.build, step, atom or 0)))
            if len(waiting) > ahead:
                yield _ready(waiting)
        while waiting:
            yield _ready(waiting)


def _ready(waiting: deque[tuple[int, int | None, Future[Arrays]]]) -> Round:
    step, atom, future = waiting.popleft()
    return step, atom, future.result()
