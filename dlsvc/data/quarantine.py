"""Samples that can't be decoded, each written down once, whoever of a run meets it first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from dlsvc.data.lock import locked
from dlsvc.errors import DataError

FILE = "quarantine.jsonl"
_SHOWN = 20


@dataclass(frozen=True)
class BadSample:
    """A sample that can't be decoded: which, where it comes from, and why."""

    id: int
    uri: str
    reason: str


class Quarantine:
    """What is known of a split's bad samples; with a file, also by those who build atoms elsewhere or did before.

    A process's share says little of the whole, so the limit holds for all that everybody found: beyond it making one,
    or adding to it, raises DataError with the table of reasons.
    """

    def __init__(self, total: int, max_fraction: float, path: Path | None = None) -> None:
        self.total, self.max_fraction, self.path = total, max_fraction, path
        self.samples: dict[int, BadSample] = {}
        self._read = 0
        if path is not None:
            with locked(path) as stream:
                self._catch_up(stream)
        self._check()

    def __contains__(self, sample_id: object) -> bool:
        return sample_id in self.samples

    def add(self, sample: BadSample) -> None:
        if self.path is None:
            self.samples.setdefault(sample.id, sample)
        else:
            with locked(self.path) as stream:
                self._catch_up(stream)
                if sample.id not in self.samples:
                    stream.write((json.dumps(asdict(sample), sort_keys=True) + "\n").encode())
                    self.samples[sample.id] = sample
                    self._read = stream.tell()
        self._check()

    def _check(self) -> None:
        if len(self.samples) > self.max_fraction * self.total:
            raise DataError(too_many_bad(list(self.samples.values()), self.total, self.max_fraction))

    def _catch_up(self, stream: BinaryIO) -> None:
        """Read what was added since; half a line that a kill left is cut away. Leaves the stream at its end."""
        stream.seek(self._read)
        fresh = stream.read()
        whole = fresh[: fresh.rfind(b"\n") + 1]
        for line in whole.splitlines():
            sample = BadSample(**json.loads(line))
            self.samples[sample.id] = sample
        self._read += len(whole)
        stream.seek(self._read)
        stream.truncate()


def too_many_bad(bad: Sequence[BadSample], total: int, limit: float) -> str:
    """The table of reasons that ends a run."""
    lines = [f"  sample {sample.id}  {sample.uri}: {sample.reason}" for sample in bad[:_SHOWN]]
    more = [f"  ... and {len(bad) - _SHOWN} more"] if len(bad) > _SHOWN else []
    head = f"{len(bad)} of {total} samples can't be decoded, more than data.max_bad_fraction = {limit:g} allows:"
    return "\n".join([head, *lines, *more])
