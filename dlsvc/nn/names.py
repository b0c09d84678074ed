"""Parts and parameters of a model by glob. A glob that matches nothing is an error."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Sequence

from dlsvc.errors import UsageError


def matching(globs: Iterable[str], names: Sequence[str], *, where: str, what: str = "parameter") -> set[str]:
    """The names that any glob matches. Raises UsageError naming a glob that matches none of `what` there is, and the
    names closest to it.
    """
    found: set[str] = set()
    for glob in globs:
        hits = [name for name in names if fnmatch.fnmatchcase(name, glob)]
        if not hits:
            raise UsageError(f"{where}: {glob!r} matches no {what}; {_closest(glob, names)}")
        found.update(hits)
    return found


def _closest(glob: str, names: Sequence[str]) -> str:
    """The names most like a glob's text; the first ones when none is."""
    close = difflib.get_close_matches(glob.replace("*", ""), names, n=3, cutoff=0.4)
    return (
        f"close ones: {', '.join(close)}"
        if close
        else f"there are {', '.join(names[:6])}{' ...' if len(names) > 6 else ''}"
    )
