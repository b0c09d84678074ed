"""The plan: which sample stands at which position of a run. A pure function, the same on every worker, feed and
restart.

Position p = step * global_size + offset runs on through the epochs without a seam: epoch = p // n, and the sample is
element p % n of that epoch's order. Atom j of a step is positions [j * micro_size, (j + 1) * micro_size) of its global
batch; workers only decide who computes which atoms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlsvc.augment import keys
from dlsvc.data.order import Ids, Order


@dataclass(frozen=True)
class Plan:
    """The training split in its order, in global batches of `global_size`, cut in atoms of `micro_size`."""

    seed: int
    order: Order
    global_size: int
    micro_size: int

    @property
    def num_samples(self) -> int:
        return len(self.order)

    @property
    def num_atoms(self) -> int:
        return self.global_size // self.micro_size

    def positions(self, step: int, atom: int) -> Ids:
        """The run's positions of one atom, (micro_size,)."""
        first = step * self.global_size + atom * self.micro_size
        return np.arange(first, first + self.micro_size, dtype=np.int64)

    def epochs(self, positions: Ids) -> Ids:
        return positions // self.num_samples

    def ids(self, positions: Ids) -> Ids:
        """The sample id at each position."""
        epochs = self.epochs(positions)
        found = np.empty_like(positions)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            found[here] = self.order.ids(self.seed, int(epoch), positions[here] % self.num_samples)
        return found

    def keys(self, positions: Ids, ids: Ids) -> keys.Keys:
        """The random key of each sample in its epoch."""
        return keys.sample_keys(self.seed, self.epochs(positions), ids)

    def assignment(self, rank: int, world_size: int) -> list[int | None]:
        """The atoms of a step that a rank computes, in rounds; None where it runs one of weight zero so that
        collectives stay aligned.
        """
        rounds = -(-self.num_atoms // world_size)
        atoms = [turn * world_size + rank for turn in range(rounds)]
        return [atom if atom < self.num_atoms else None for atom in atoms]

    def fingerprint(self, step: int) -> int:
        """What `fingerprint` of the ids that were really trained on must sum to over all atoms of a step."""
        positions = np.arange(step * self.global_size, (step + 1) * self.global_size, dtype=np.int64)
        return fingerprint(positions, self.ids(positions))


def fingerprint(positions: Ids, ids: Ids) -> int:
    """An order-free fingerprint of who stood where: a sum of mixed 64-bit words, as a signed integer that wraps."""
    words = keys.mix(keys.mix(positions.astype(np.uint64)) + ids.astype(np.uint64))
    return int(words.sum(dtype=np.uint64).astype(np.int64))
