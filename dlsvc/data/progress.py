"""How far a long step is, as text: a bar that a terminal redraws, and at most ten lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
Say = Callable[[str], None]

_WIDTH = 20
_PATIENCE_S = 1.0


def say(text: str) -> None:
    """To stderr, at once: stdout is for results."""
    print(text, file=sys.stderr, flush=True)


def silent(text: str) -> None:
    """Says nothing."""


def bar(done: float, total: float) -> str:
    """`|#####               |  25 %`; never more than full, since totals may be estimates."""
    share = min(1.0, done / total)
    filled = int(share * _WIDTH)
    return f"|{'#' * filled}{' ' * (_WIDTH - filled)}| {int(share * 100):3} %"


class Tenths:
    """Says `title`, the bar and the figures when another tenth is done, but not within a second of the last time.

    So what is quickly done is passed over in silence. Nothing is said when the total isn't known.
    """

    def __init__(self, title: str, total: int, say: Say) -> None:
        self.title = title
        self.total = total
        self._say = say
        self._said = 0
        self._when = time.monotonic()

    def reach(self, done: int, figures: str) -> None:
        tenth = done * 10 // self.total if self.total else 0
        if tenth > self._said and time.monotonic() - self._when >= _PATIENCE_S:
            self._said, self._when = tenth, time.monotonic()
            self._say(f"{self.title} {bar(done, self.total)} {figures}")


def counted(items: Iterable[T], title: str, total: int, say: Say) -> Iterator[T]:
    """The items as they are, said how many have gone by."""
    tenths = Tenths(title, total, say)
    for done, item in enumerate(items, 1):
        yield item
        tenths.reach(done, f"{done:,} of {total:,}")
