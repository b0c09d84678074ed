"""Dotted overrides, `optim.lr=1e-3`, `data.augment.0.p=0.5`, `data.image={size: 28}`, set before checks."""

from __future__ import annotations

from collections.abc import Sequence

from dlsvc.errors import Problem
from dlsvc.spec.document import Node, Place, read


def apply_overrides(root: Node, overrides: Sequence[str]) -> list[Problem]:
    """Set each override in its turn. A path that names no field is found later, when the tree is checked."""
    problems: list[Problem] = []
    for text in overrides:
        place = Place(f"override {text!r}")
        path, equals, value = text.partition("=")
        steps = path.strip().split(".")
        if not equals or not all(steps):
            problems.append(place.problem("write path=value, such as optim.lr=1e-3 or data.augment.0.p=0.5"))
            continue
        refused: list[Problem] = []
        node = read(value.encode(), place.file, refused, has_lines=False)
        problems += refused if refused or node is None else _put(root, steps, node, place)
    return problems


def _put(root: Node, steps: Sequence[str], node: Node, place: Place) -> list[Problem]:
    parent = root
    for depth, step in enumerate(steps):
        path = ".".join(steps[:depth])
        if parent.value is None:
            # `data.image: null` becomes a section when a field of it is given.
            parent.value = {}
        if isinstance(parent.value, list):
            found = parent.child(step)
            if found is None:
                return [place.problem(_no_such_index(step, len(parent.value)), path)]
            if depth == len(steps) - 1:
                parent.value[int(step)] = node
            parent = found
        elif isinstance(parent.value, dict):
            if depth == len(steps) - 1:
                parent.put(step, node, place)
            elif parent.child(step) is None:
                parent.put(step, Node(place, {}), place)
            parent = parent.value[step]
        else:
            return [place.problem(f"is {parent.value!r}, which has nothing inside to set", path)]
    return []


def _no_such_index(step: str, length: int) -> str:
    known = f"0 to {length - 1}" if length > 1 else "0" if length else "none, for the list is empty"
    return f"is a list, and has no place {step!r}; places: {known}"
