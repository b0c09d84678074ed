"""Augmentations by name, found by reading this package's source, so that a spec is checked without importing numpy.

A frozen dataclass decorated with `@register_augmentation("name", modality="image")` is an entry; its fields are its
parameters.
"""

from __future__ import annotations

import ast
import functools
import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from dlsvc.errors import NotFound, UsageError, did_you_mean
from dlsvc.registry import REQUIRED, Argument

_Class = TypeVar("_Class", bound=type)


class AugmentOptions(Protocol):
    """What a spec says of an augmentation."""

    @property
    def name(self) -> str: ...
    @property
    def parameters(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class AugmentationEntry:
    """A registered augmentation, as its source says."""

    name: str
    modality: str
    module: str
    class_name: str
    doc: str
    parameters: tuple[Argument, ...]

    def load(self) -> Any:
        return getattr(importlib.import_module(self.module), self.class_name)


def register_augmentation(name: str, *, modality: str) -> Callable[[_Class], _Class]:
    """Mark a frozen dataclass with `apply(arrays, keys)` as an augmentation of a modality."""
    return lambda cls: cls


@functools.cache
def entries() -> Mapping[str, AugmentationEntry]:
    """Every augmentation by its name."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return {entry.name: entry for path in files for entry in _read(path)}


def resolve(name: str) -> AugmentationEntry:
    known = entries()
    if name not in known:
        raise NotFound(f"no augmentation is called {name!r}{did_you_mean(name, known)}")
    return known[name]


def build_augmentations(asked: Iterable[AugmentOptions]) -> list[Any]:
    """The augmentations of a spec, in its order. The keys that each is applied with already tell its place apart."""
    return [_built(resolve(options.name), options.parameters) for options in asked]


def _built(entry: AugmentationEntry, parameters: Mapping[str, Any]) -> Any:
    known = {one.name: one for one in entry.parameters}
    for name in parameters:
        if name not in known:
            raise UsageError(f"{entry.name} has no parameter {name!r}{did_you_mean(name, known)}")
    if lacking := [name for name, one in known.items() if one.default is REQUIRED and name not in parameters]:
        raise UsageError(f"{entry.name} needs {', '.join(lacking)}")
    return entry.load()(**parameters)


def _read(path: Path) -> list[AugmentationEntry]:
    classes = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)]
    return [
        AugmentationEntry(
            name=ast.literal_eval(mark.args[0]),
            modality=ast.literal_eval(mark.keywords[0].value),
            module=f"dlsvc.augment.{path.stem}",
            class_name=node.name,
            doc=ast.get_docstring(node) or "",
            parameters=tuple(_parameter(item) for item in node.body if isinstance(item, ast.AnnAssign)),
        )
        for node in classes
        for mark in node.decorator_list
        if isinstance(mark, ast.Call) and isinstance(mark.func, ast.Name) and mark.func.id == "register_augmentation"
    ]


def _parameter(node: ast.AnnAssign) -> Argument:
    default = REQUIRED if node.value is None else ast.literal_eval(node.value)
    return Argument(ast.unparse(node.target), ast.unparse(node.annotation), default)


def describe() -> list[dict[str, Any]]:
    """One row an augmentation, for `augment ls`."""
    return [
        {
            "modality": entry.modality,
            "name": entry.name,
            "parameters": {one.name: f"{one.annotation}{_default(one)}" for one in entry.parameters},
            "about": entry.doc.partition("\n")[0],
        }
        for entry in entries().values()
    ]


def _default(argument: Argument) -> str:
    return "" if argument.default is REQUIRED else f" = {argument.default!r}"
