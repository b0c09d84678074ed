"""A data set that is here: its facts, and row access to its splits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dlsvc.data.table import Table
from dlsvc.errors import DataError, did_you_mean


@dataclass(frozen=True)
class Source:
    """A data set that is here: its facts, and `table(split)`."""

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, Callable[[], Table]]
    image_size: int | None = None
    channels: int | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    features: tuple[str, ...] = ()
    length: int | None = None
    licence: str = ""
    attribution: str = ""
    _open: dict[str, Table] = field(default_factory=dict, repr=False, compare=False)

    def table(self, split: str) -> Table:
        """The split's rows. Raises DataError when there is no such split, or nothing in it."""
        if split not in self.splits:
            raise DataError(f"{self.name} has no split {split!r}{did_you_mean(split, self.splits)}")
        if split not in self._open:
            table = self.splits[split]()
            if not len(table):
                raise DataError(f"the {split} split of {self.name} is empty")
            self._open[split] = table
        return self._open[split]
