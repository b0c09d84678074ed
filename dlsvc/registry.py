"""Models and tasks by name, found by reading the package's source, so that a spec is checked without importing torch.

Each file in `dlsvc/models` or `dlsvc/tasks` that decorates a class with `@register_model("name", ...)` or
`@register_task("name", ...)` is an entry; the constructor's signature is its schema. The decorators' arguments must be
literals: they are read from the syntax tree.
"""

from __future__ import annotations

import ast
import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from dlsvc.errors import NotFound, did_you_mean

Kind = Literal["model", "task"]
REQUIRED = object()
_PACKAGE = Path(__file__).parent
_Class = TypeVar("_Class", bound=type)


@dataclass(frozen=True)
class Argument:
    """One keyword of a constructor: its annotation as written and its default, or REQUIRED."""

    name: str
    annotation: str
    default: Any


@dataclass(frozen=True)
class Entry:
    """A registered class, as its source says. `options` holds the decorator's keywords; `parts` the file's frozen
    dataclasses.
    """

    kind: Kind
    name: str
    module: str
    class_name: str
    doc: str
    arguments: tuple[Argument, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, tuple[Argument, ...]] = field(default_factory=dict)

    def load(self) -> Any:
        return getattr(importlib.import_module(self.module), self.class_name)


def register_model(
    name: str, *, task: str, tiny: Mapping[str, Any], metric: str | None = None
) -> Callable[[_Class], _Class]:
    """Mark a model: its default task, the arguments that make it small enough for the common tests, and what it is
    judged by where that isn't the task's first metric.
    """
    return lambda cls: cls


def register_task(
    name: str,
    *,
    metrics: tuple[str, ...],
    reads: tuple[str, ...] = (),
    phases: tuple[str, ...] = ("main",),
    couples_samples: bool = False,
    makes_samples: bool = False,
    encodes_once: bool = False,
    mixes: bool = False,
    tokenizer: str | None = None,
) -> Callable[[_Class], _Class]:
    """Mark a task: what its evaluation gives (globs; the first is the one that a model is judged by), the batch keys it
    reads, its phases in order, whether its loss couples the samples of a global batch, whether `predict` makes a
    sample of a key alone, whether it has an `encode` whose outcome may be kept for a whole run, whether it reads a
    batch's `target`, where labels are mixed, and the tokenizer whose ids it counts on, if it does.
    """

    def mark(cls: _Class) -> _Class:
        for attribute, value in (
            ("reads", reads),
            ("phases", phases),
            ("couples_samples", couples_samples),
            ("makes_samples", makes_samples),
            ("encodes_once", encodes_once),
            ("mixes", mixes),
        ):
            setattr(cls, attribute, value)
        return cls

    return mark


def entries(kind: Kind) -> dict[str, Entry]:
    """Every entry of a kind, by name."""
    return _walk(kind)


def resolve(kind: Kind, name: str) -> Entry:
    """The entry of that name; NotFound names the closest one."""
    known = entries(kind)
    if name not in known:
        raise NotFound(f"no {kind} is called {name!r}{did_you_mean(name, known)}")
    return known[name]


@functools.cache
def _walk(kind: Kind) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for path in sorted((_PACKAGE / f"{kind}s").glob("*.py")):
        for entry in _read(kind, path):
            assert entry.name not in found, f"{entry.name!r} is registered twice"
            found[entry.name] = entry
    return found


def _read(kind: Kind, path: Path) -> list[Entry]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    parts = _parts(tree)
    module = f"dlsvc.{kind}s.{path.stem}"
    return [
        _entry(kind, module, node, call, parts)
        for node in classes
        for call in node.decorator_list
        if _is_registration(call, kind)
    ]


def _parts(tree: ast.Module) -> dict[str, tuple[Argument, ...]]:
    """The dataclasses of a file, and those that it takes from other models."""
    found = {
        node.name: _fields(node)
        for node in tree.body
        if isinstance(node, ast.ClassDef) and any("dataclass" in ast.unparse(d) for d in node.decorator_list)
    }
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dlsvc.models."):
            path = _PACKAGE / "models" / f"{(node.module or '').rpartition('.')[2]}.py"
            theirs = _parts(ast.parse(path.read_text(encoding="utf-8")))
            found |= {alias.name: theirs[alias.name] for alias in node.names if alias.name in theirs}
    return found


def _is_registration(node: ast.expr, kind: Kind) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == f"register_{kind}"


def _entry(
    kind: Kind, module: str, node: ast.ClassDef, call: ast.expr, parts: Mapping[str, tuple[Argument, ...]]
) -> Entry:
    assert isinstance(call, ast.Call)
    name = ast.literal_eval(call.args[0])
    options = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg}
    return Entry(kind, name, module, node.name, ast.get_docstring(node) or "", _signature(node), options, parts)


def _signature(node: ast.ClassDef) -> tuple[Argument, ...]:
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            pairs = zip(item.args.kwonlyargs, item.args.kw_defaults, strict=True)
            return tuple(_argument(argument.arg, argument.annotation, default) for argument, default in pairs)
    return ()


def _fields(node: ast.ClassDef) -> tuple[Argument, ...]:
    found = [item for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)]
    return tuple(
        _argument(item.target.id, item.annotation, item.value) for item in found if isinstance(item.target, ast.Name)
    )


def _argument(name: str, annotation: ast.expr | None, default: ast.expr | None) -> Argument:
    return Argument(name, ast.unparse(annotation) if annotation else "Any", _literal(default))


def _literal(node: ast.expr | None) -> Any:
    """A default's value; a nested part's default (`VisionArgs()`) reads as the mapping of its keywords."""
    if node is None:
        return REQUIRED
    if isinstance(node, ast.Call):
        return {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords if keyword.arg}
    return ast.literal_eval(node)
