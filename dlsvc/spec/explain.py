"""pydantic's errors as ours: where it was written, which field, what would be right."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dlsvc.errors import Problem, did_you_mean
from dlsvc.spec.document import Node, Place
from dlsvc.spec.sections import ALIAS_PATTERN, CONDITION_PATTERN, NAME_PATTERN, REFERENCE_PATTERN

Loc = tuple[str | int, ...]

_PATTERNS = {
    ALIAS_PATTERN: "an alias of 1 to 63 of a-z, 0-9 and -, and not a number alone",
    CONDITION_PATTERN: "a comparison such as `>= 0.97`, or `> prod` with what an alias has",
    NAME_PATTERN: "a name of 1 to 63 of a-z, 0-9 and -",
    REFERENCE_PATTERN: "a model reference, which is name, name@3 or name@alias, with names of a-z, 0-9 and -",
    r"^[^\x00]{1,4096}$": "a location of 1 to 4096 characters without NUL",
    r"^[a-z0-9_-]{1,63}$": "a name of 1 to 63 of a-z, 0-9, _ and -",
}
_KINDS = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "none_required": "null",
    "finite_number": "a finite number",
    "model_type": "a section of fields",
    "model_attributes_type": "a section of fields",
    "dict_type": "a section of fields",
    "list_type": "a list",
    "tuple_type": "a list",
}
_BOUNDS = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}


@dataclass(frozen=True)
class Finding:
    """One of pydantic's errors, by the path that the user knows."""

    path: tuple[str, ...]
    place: Place
    error: ErrorDetails

    @property
    def is_kind(self) -> bool:
        """Whether the value is of another kind, of which a union reports one a member."""
        return self.error["type"] in _KINDS or self.error["type"] == "literal_error"


def findings(error: ValidationError, tree: Node) -> list[Finding]:
    """What pydantic found, without what repeats: a phase's inherited fields, the other members of a union."""
    details = error.errors(include_url=False, include_input=False)
    known = {detail["loc"] for detail in details}
    found = [_find(detail, tree) for detail in details if _inherited_from(detail["loc"]) not in known]
    return [one for one in found if not _is_other_member(one, found)]


def explain(found: Sequence[Finding], tree: Node, model: type[BaseModel], prefix: str = "") -> list[Problem]:
    """One problem a path: what its value must be, or isn't."""
    by_path: dict[tuple[str, ...], list[Finding]] = {}
    for one in found:
        by_path.setdefault(one.path, []).append(one)
    return [
        group[0].place.problem(_message(group, tree, model), prefix + ".".join(path)) for path, group in by_path.items()
    ]


def place_of(tree: Node, path: Iterable[str | int], *, of_key: bool = False) -> Place:
    """Where the deepest part of a path that was written stands."""
    node, place = tree, tree.place
    for part in path:
        child = node.child(part)
        if child is None:
            break
        place = node.keys[str(part)] if of_key and str(part) in node.keys else child.place
        node = child
    return place


def shown(value: Any) -> str:
    """A value as a message shows it."""
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _find(detail: ErrorDetails, tree: Node) -> Finding:
    """Walk the error's location; what isn't in the tree is the name of a union's member, or the field at the end."""
    node, path = tree, []
    ends_absent = detail["type"] in ("missing", "extra_forbidden")
    for place, part in enumerate(detail["loc"]):
        child = node.child(part)
        if child is not None:
            node = child
            path.append(str(part))
        elif ends_absent and place == len(detail["loc"]) - 1:
            path.append(str(part))
    return Finding(tuple(path), place_of(tree, path, of_key=detail["type"] == "extra_forbidden"), detail)


def _inherited_from(loc: Loc) -> Loc | None:
    if "phases" not in loc[:-2]:
        return None
    at = loc.index("phases")
    return loc[:at] + loc[at + 2 :]


def _is_other_member(one: Finding, found: Sequence[Finding]) -> bool:
    """Whether a better error says more of the same value: one inside it, or one that accepts its kind."""
    depth = len(one.path)
    inside = any(other.path[:depth] == one.path and len(other.path) > depth for other in found)
    if one.error["type"] == "too_short":
        # Wrong items don't count as items.
        return inside
    better = any(other.path == one.path and not other.is_kind for other in found)
    return one.is_kind and (inside or better)


def _message(group: Sequence[Finding], tree: Node, model: type[BaseModel]) -> str:
    first = group[0]
    kind = first.error["type"]
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return f"there is no such field{_suggestion(first.path, model)}"
    if kind == "value_error":
        return str(first.error["ctx"]["error"])
    node: Node | None = tree
    for part in first.path:
        node = node.child(part) if node else None
    value = node.plain() if node else None
    wanted = " or ".join(dict.fromkeys(_wanted(one.error) for one in group))
    return f"must be {wanted}, not {shown(value)}{_close_literal(group, value)}"


def _wanted(error: ErrorDetails) -> str:
    """What an error asks for, to stand after "must be"."""
    kind, context = error["type"], error.get("ctx", {})
    if kind in _KINDS:
        return _KINDS[kind]
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return f"{words} {context[bound]:g}" if isinstance(context[bound], float) else f"{words} {context[bound]}"
    if kind == "literal_error":
        return str(context["expected"])
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(context["pattern"], f"text like {context['pattern']}")
    if kind in ("too_short", "too_long", "string_too_short", "string_too_long"):
        bound = "min_length" if kind.endswith("short") else "max_length"
        unit = "characters" if kind.startswith("string") else "values"
        return f"of {'at least' if kind.endswith('short') else 'at most'} {context[bound]} {unit}"
    return error["msg"].removeprefix("Input should be ").removeprefix("Value should be ")


def _close_literal(group: Sequence[Finding], value: Any) -> str:
    """`; did you mean x?` for a word that is nearly one of the accepted ones."""
    expected = [one.error["ctx"]["expected"] for one in group if one.error["type"] == "literal_error"]
    words = [word for text in expected for word in text.replace(" or ", ", ").replace("'", "").split(", ")]
    hint = did_you_mean(value, words) if isinstance(value, str) else ""
    return hint if "did you mean" in hint else ""


def _suggestion(path: Sequence[str], model: type[BaseModel]) -> str:
    """The same name in another section; else the closest field of the same one."""
    *parents, name = path
    section = model
    for part in parents:
        section = _inner(section.model_fields[part].annotation) or section if part in section.model_fields else section
    elsewhere = [".".join(found) for found in _paths(model) if found[-1] == name]
    return f"; did you mean {elsewhere[0]!r}?" if elsewhere else did_you_mean(name, section.model_fields)


def _inner(annotation: Any) -> type[BaseModel] | None:
    """The section inside an annotation: `dict[str, GroupSpec]`, `ImageSpec | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in typing.get_args(annotation) if (found := _inner(part))), None)


def _paths(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterable[tuple[str, ...]]:
    """Every field's path, the shallow ones first."""
    yield from ((*above, name) for name in model.model_fields)
    for name, field in model.model_fields.items():
        inner = _inner(field.annotation)
        if inner is not None and typing.get_origin(field.annotation) not in (dict, tuple):
            yield from _paths(inner, (*above, name))
