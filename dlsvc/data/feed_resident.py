"""The resident feed: atoms built from a table in memory, threads ahead of the training loop."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from dlsvc.data.atom import Arrays, AtomBuilder

Place = tuple[int, int | None]
Round = tuple[int, int | None, Arrays]

# Small atoms are built several at a time: a pass over arrays costs as much for a few samples as for some hundreds.
GROUP_BYTES = 4 * 2**20
GROUP_ATOMS = 16


def resident_feed(
    builder: AtomBuilder, *, start: int, stop: int, rank: int, world_size: int, threads: int = 1, ahead: int = 4
) -> Iterator[Round]:
    """(step, atom or None, arrays) for each round of steps [start, stop), in order; a rank short of atoms gets atom 0
    as None. `ahead`: groups of atoms that are built before they are asked for.
    """
    atoms = builder.plan.assignment(rank, world_size)
    places = ((step, atom) for step in range(start, stop) for atom in atoms)
    # The first alone: training begins with it, and it tells how large atoms are.
    first = _rounds(builder, list(itertools.islice(places, 1)))
    size = _group_size(first)
    groups = iter(lambda: list(itertools.islice(places, size)), [])
    with ThreadPoolExecutor(threads, thread_name_prefix="feed") as pool:
        waiting: deque[Future[list[Round]]] = deque([pool.submit(list, first)])
        for group in groups:
            waiting.append(pool.submit(_rounds, builder, group))
            if len(waiting) > ahead:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _group_size(rounds: Sequence[Round]) -> int:
    nbytes = sum(array.nbytes for _, _, arrays in rounds for array in arrays.values())
    return max(1, min(GROUP_ATOMS, GROUP_BYTES // max(1, nbytes)))


def _rounds(builder: AtomBuilder, places: Sequence[Place]) -> list[Round]:
    """Some atoms, built in one pass and taken apart again."""
    if not places:
        return []
    whole, length = builder.build_all([(step, atom or 0) for step, atom in places]), builder.plan.micro_size
    parts = [slice(start, start + length) for start in range(0, length * len(places), length)]
    return [
        (step, atom, {name: array[part] for name, array in whole.items()})
        for (step, atom), part in zip(places, parts, strict=True)
    ]
