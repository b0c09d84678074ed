"""YAML as plain values that remember where they stand. Scalars are read as YAML 1.2 core says, not as PyYAML's 1.1.

`1e-4` is a number, `no` and `on` are strings, `012` is 12, `1:30` is a string, only true and false are booleans.
Duplicate keys, aliases, tags and second documents are refused: each has a meaning that a reader would not expect in a
spec. Reading goes on after such a problem, so that all of them are found at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from dlsvc.errors import Problem

MAX_BYTES = 1 << 20
MAX_DEPTH = 50
MAX_NODES = 100_000
# More digits than any field could hold; Python refuses thousands of them with an error of its own.
_MAX_DIGITS = 40

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_STRING_TAGS = ("!", "tag:yaml.org,2002:str")


@dataclass(frozen=True)
class Place:
    """Where something was written; line 0 is "no line", as in an override."""

    file: str = ""
    line: int = 0
    column: int = 0

    def problem(self, message: str, path: str = "") -> Problem:
        return Problem(message, path, self.file, self.line, self.column)


@dataclass
class Node:
    """A value and its place. `keys` holds the places of a mapping's keys; `value` then maps names to nodes."""

    place: Place
    value: Any = None
    keys: dict[str, Place] = field(default_factory=dict)

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {name: node.plain() for name, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def child(self, name: str | int) -> Node | None:
        """What stands under a key or at an index of a list."""
        if isinstance(self.value, dict):
            found = self.value.get(str(name))
            return found if isinstance(found, Node) else None
        if isinstance(self.value, list) and str(name).isdecimal() and int(name) < len(self.value):
            node: Node = self.value[int(name)]
            return node
        return None

    def put(self, name: str, node: Node, place: Place) -> None:
        self.value[name] = node
        self.keys[name] = place


class Unreadable(Exception):
    """The text can't be read to its end; what was found is in `problem`."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def read(text: bytes | str, file: str, problems: list[Problem], *, has_lines: bool = True) -> Node | None:
    """The one document of a text, or None if it can't be read. What is wrong is added to `problems`."""
    try:
        return _Reader(file, problems, has_lines).document(_decoded(text, file))
    except Unreadable as error:
        problems.append(error.problem)
    return None


def from_plain(value: Any, file: str = "") -> Node:
    """A tree over values that were never text."""
    place = Place(file)
    if isinstance(value, Mapping):
        children = {str(name): from_plain(child, file) for name, child in value.items()}
        return Node(place, children, dict.fromkeys(children, place))
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return Node(place, [from_plain(child, file) for child in value])
    return Node(place, value)


def scalar(text: str) -> Any:
    """A plain scalar by YAML 1.2's core schema."""
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if len(text) <= _MAX_DIGITS and _INTEGER.fullmatch(text):
        return int(text)
    if len(text) <= _MAX_DIGITS and _BASED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", ""))
    return text


def _decoded(text: bytes | str, file: str) -> str:
    if len(text) > MAX_BYTES:
        raise Unreadable(Problem(f"is {len(text)} bytes; a spec has at most {MAX_BYTES}", file=file))
    if isinstance(text, str):
        return text
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = text[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        message = f"byte 0x{text[error.start]:02x} isn't UTF-8; save the file as UTF-8"
        raise Unreadable(Problem(message, file=file, line=line, column=column)) from error


class _Reader:
    """Builds nodes from the parser's events, which carry no meaning yet and cost no more than the text is long."""

    def __init__(self, file: str, problems: list[Problem], has_lines: bool) -> None:
        self.file = file
        self.problems = problems
        self.has_lines = has_lines
        self.count = 0

    def document(self, text: str) -> Node | None:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        events = self._events(yaml.parse(text, Loader=loader))
        root: Node | None = None
        for event in events:
            if isinstance(event, yaml.NodeEvent):
                if root is not None:
                    self._add(event, "a second document; a file holds one spec")
                    return root
                root = self._node(event, events, 0)
        return root if root is not None else Node(Place(self.file))

    def _events(self, events: Iterator[yaml.Event]) -> Iterator[yaml.Event]:
        """The events, with the parser's complaints as ours."""
        try:
            yield from events
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            detail = " ".join(part for part in (error.context, error.problem) if part)
            place = Place(self.file, mark.line + 1, mark.column + 1) if mark and self.has_lines else Place(self.file)
            raise Unreadable(place.problem(f"isn't YAML: {detail}")) from error
        except yaml.YAMLError as error:
            raise Unreadable(Problem(f"isn't YAML: {' '.join(str(error).split())}", file=self.file)) from error

    def _node(self, event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> Node:
        self.count += 1
        if depth > MAX_DEPTH:
            raise Unreadable(self._place(event).problem(f"is nested more than {MAX_DEPTH} levels deep"))
        if self.count > MAX_NODES:
            raise Unreadable(self._place(event).problem(f"has more than {MAX_NODES} values"))
        self._refuse(event)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(event, events, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            children = []
            while not isinstance(item := next(events), yaml.SequenceEndEvent):
                children.append(self._node(item, events, depth + 1))
            return Node(self._place(event), children)
        if isinstance(event, yaml.ScalarEvent):
            plain = event.implicit[0] and event.tag not in _STRING_TAGS
            return Node(self._place(event), scalar(event.value) if plain else event.value)
        return Node(self._place(event))

    def _mapping(self, start: yaml.Event, events: Iterator[yaml.Event], depth: int) -> Node:
        node = Node(self._place(start), {})
        while not isinstance(key := next(events), yaml.MappingEndEvent):
            place = self._place(key)
            name = self._key(key, events, depth)
            child = self._node(next(events), events, depth + 1)
            if name is None:
                continue
            if name in node.keys:
                first = f"first on line {node.keys[name].line}" if self.has_lines else "before"
                self.problems.append(place.problem(f"the key {name!r} is given again; it stands {first}"))
            else:
                node.put(name, child, place)
        return node

    def _key(self, event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> str | None:
        """A key's text as written, so that `1:` is "1" and `no:` is "no"."""
        if isinstance(event, yaml.ScalarEvent):
            self._refuse(event)
            return str(event.value)
        self._add(event, "a key must be a plain word")
        self._node(event, events, depth + 1)
        return None

    def _refuse(self, event: yaml.Event) -> None:
        tag = getattr(event, "tag", None)
        if isinstance(event, yaml.AliasEvent):
            self._add(event, f"the alias *{event.anchor} is refused; write the value out")
        elif isinstance(event, yaml.NodeEvent) and event.anchor:
            self._add(event, f"the anchor &{event.anchor} is refused; aliases aren't read in a spec")
        if tag is not None and tag not in _STRING_TAGS:
            self._add(event, f"the tag {tag!r} is refused; a spec is plain data")

    def _add(self, event: yaml.Event, message: str) -> None:
        self.problems.append(self._place(event).problem(message))

    def _place(self, event: yaml.Event) -> Place:
        mark = event.start_mark
        return Place(self.file, mark.line + 1, mark.column + 1) if mark and self.has_lines else Place(self.file)
