"""Everything that can go wrong, and the exit code that each kind ends the command with.

DlsvcError                      1    unexpected; the base of the rest
├── SpecError                   2    what the user wrote is wrong; carries every problem at file:line:column
├── UsageError                  2    the command line is wrong
├── ClusterUnreachable          3    no Ray cluster answers at the address
├── Refused                     4    would lose or overwrite something, or is not allowed
├── DataError                 100    data can't be used: unreadable, empty, a label out of range, too many bad samples
├── RunFailed                 100    the run ended without a model
│   ├── CheckpointError       100    checkpoints exist and none can be trusted, or one can't be written
│   ├── RanksDiverged         100    ranks that must be equal are not
│   └── NonFiniteLoss         100    the loss became NaN or infinite
├── NotFound                  102    no such run, model, recipe, data set
└── RunCancelled              103    somebody cancelled it
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


class DlsvcError(Exception):
    exit_code = 1


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a spec: where it stands, which field it is, and what would be right."""

    message: str
    path: str = ""
    file: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: " if self.line else f"{self.file}: " if self.file else ""
        return f"{place}{self.path + ': ' if self.path else ''}{self.message}"


class SpecError(DlsvcError):
    exit_code = 2

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class UsageError(DlsvcError):
    exit_code = 2


class ClusterUnreachable(DlsvcError):
    exit_code = 3


class Refused(DlsvcError):
    exit_code = 4


class DataError(DlsvcError):
    exit_code = 100


class RunFailed(DlsvcError):
    exit_code = 100


class CheckpointError(RunFailed):
    pass


class RanksDiverged(RunFailed):
    pass


class NonFiniteLoss(RunFailed):
    pass


class NotFound(DlsvcError):
    exit_code = 102


class RunCancelled(DlsvcError):
    exit_code = 103


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean x?` when something close is known, else the sorted list of what is."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names)}" if names else ""
