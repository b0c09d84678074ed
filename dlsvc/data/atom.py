"""An atom as arrays: the one way from sample ids to a batch, for both feeds, so that they are equal bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dlsvc.augment.mix import partners
from dlsvc.augment.pipeline import Pipeline
from dlsvc.data.plan import Plan
from dlsvc.data.quarantine import BadSample, Quarantine

Arrays = dict[str, NDArray[Any]]


class Rows(Protocol):
    """Row access to one split."""

    def __len__(self) -> int: ...

    def rows(self, ids: NDArray[np.int64]) -> dict[str, Any]: ...


class Preprocessing(Protocol):
    @property
    def image(self) -> Any: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    def decode(self, rows: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]: ...

    def finish(self, samples: dict[str, Any]) -> Arrays: ...

    def read_tokens(self, ids: Sequence[int]) -> str: ...


@dataclass
class AtomBuilder:
    """Builds atom `j` of step `t`: rows, decoded, augmented by each sample's key, normalised, mixed with partners.

    A sample has the same bits in whichever company it is built, so several atoms are built in one pass over arrays.
    """

    plan: Plan
    table: Rows
    preprocess: Preprocessing
    quarantine: Quarantine
    pipeline: Pipeline = field(default_factory=Pipeline)

    def build(self, step: int, atom: int) -> Arrays:
        return self.build_all([(step, atom)])

    def build_all(self, places: Sequence[tuple[int, int]]) -> Arrays:
        """The samples of several (step, atom), one atom after the other."""
        batch = self._batch(np.concatenate([self.plan.positions(step, atom) for step, atom in places]))
        return self._mixed(batch) if self.pipeline.mixes else batch

    def _batch(self, positions: NDArray[np.int64]) -> Arrays:
        ids, samples = self._decode(positions, self.plan.ids(positions))
        words = self.plan.keys(positions, ids)
        if self.preprocess.image is None:
            samples = self.pipeline.apply(samples, words)
        else:
            samples = self.pipeline.apply_normalised(
                samples, words, self.preprocess.image.mean, self.preprocess.image.std
            )
        batch = self.preprocess.finish(samples)
        if "spectrogram" in batch:
            batch["spectrogram"] = self.pipeline.apply_spectrograms(batch["spectrogram"], words)
        return {**batch, "id": ids, "position": positions, "key": words.view(np.int64)}

    def _mixed(self, batch: Arrays) -> Arrays:
        """Mixed with the samples at the partners' places of the global batch, whoever computes those."""
        other = self._batch(self._partners(batch["position"]))
        eye = np.eye(len(self.preprocess.classes), dtype=np.float32)
        one, two = ((part["image"], eye[part["label"]]) for part in (batch, other))
        image, target = self.pipeline.mix(one, two, batch["key"].view(np.uint64))
        return {**batch, "image": image, "target": target}

    def _partners(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The position of each position's partner, in the same step."""
        steps, offsets = np.divmod(positions, self.plan.global_size)
        found = np.empty_like(positions)
        for step in np.unique(steps).tolist():
            here = steps == step
            own = partners(self.plan.seed, step, self.plan.global_size)
            found[here] = step * self.plan.global_size + own[offsets[here]]
        return found

    def _decode(self, positions: NDArray[np.int64], ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], dict[str, Any]]:
        """Decode, filling the place of a bad sample with the next planned id, which every worker finds alike."""
        ids = ids.copy()
        shift = np.zeros_like(ids)
        while True:
            known = [place for place, sample in enumerate(ids) if int(sample) in self.quarantine]
            if not known:
                arrays, bad = self.preprocess.decode(self.table.rows(ids))
                if not bad:
                    return ids, arrays
                for row in bad:
                    self.quarantine.add(BadSample(int(ids[row.position]), row.uri, row.reason))
                continue
            for place in known:
                shift[place] += 1
                ids[place] = self.plan.ids(positions[place : place + 1] + shift[place])[0]
