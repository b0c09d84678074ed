"""Checks arguments against a constructor's signature as its source writes it: a small, safe reading of annotations.

Known are int, float, bool, str, None, unions, tuple, list, dict, Mapping, Sequence, Literal and the file's own frozen
dataclasses. Any other annotation accepts every value: the constructor then has the last word.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from types import GenericAlias
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo

from dlsvc.errors import Problem
from dlsvc.registry import REQUIRED, Argument
from dlsvc.spec.document import Node
from dlsvc.spec.explain import explain, findings

Parts = Mapping[str, tuple[Argument, ...]]

_SIMPLE: dict[str, Any] = {"int": int, "float": float, "bool": bool, "str": str, "dict": dict, "list": list, "Any": Any}


@dataclass
class Signature:
    """A constructor's keywords as a pydantic model."""

    name: str
    arguments: Iterable[Argument]
    parts: Parts = field(default_factory=dict)

    def model(self) -> type[BaseModel]:
        fields: dict[str, Any] = {one.name: (self._type(one), self._default(one)) for one in self.arguments}
        config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())
        return create_model(self.name, __config__=config, **fields)

    def problems(self, given: Node, prefix: str) -> list[Problem]:
        """What is wrong with a mapping of arguments that stands at `prefix`."""
        model = self.model()
        try:
            model.model_validate_json(encode(given.plain()), strict=True)
        except ValidationError as error:
            return explain(findings(error, given), given, model, f"{prefix}." if prefix else "")
        return []

    def complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments with every default filled in."""
        return self._read_in(given).model_dump(mode="json")

    def typed(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments that are given, as what the constructor takes them for: where it says float, 1 is 1.0."""
        return self._read_in(given).model_dump(mode="json", exclude_unset=True)

    def _read_in(self, given: Mapping[str, Any]) -> BaseModel:
        return self.model().model_validate_json(encode(dict(given)), strict=True)

    def _type(self, argument: Argument) -> Any:
        return self._read(ast.parse(argument.annotation, mode="eval").body)

    def _default(self, argument: Argument) -> Any:
        if argument.default is REQUIRED:
            return ...
        # A part's default reads as the mapping of its keywords; validating makes the part of it.
        default: FieldInfo = Field(default=argument.default, validate_default=isinstance(argument.default, Mapping))
        return default

    def _read(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant):
            return None if node.value is None else self._read(ast.parse(str(node.value), mode="eval").body)
        if isinstance(node, ast.Name) and node.id in self.parts:
            return Signature(node.id, self.parts[node.id], self.parts).model()
        if isinstance(node, ast.Name):
            return _SIMPLE.get(node.id, Any)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return self._union(node)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            return self._generic(node.value.id, node.slice)
        return Any

    def _union(self, node: ast.BinOp) -> Any:
        """A part that may also come as a mapping is just the part: its fields are then checked."""
        members = [self._read(side) for side in (node.left, node.right)]
        if any(isinstance(member, type) and issubclass(member, BaseModel) for member in members):
            members = [
                member for member in members if member is not dict and getattr(member, "__origin__", None) is not dict
            ]
        return reduce(lambda left, right: left | right, members) if Any not in members else Any

    def _generic(self, name: str, inner: ast.expr) -> Any:
        if name == "Literal":
            return Literal[ast.literal_eval(inner)]
        items = inner.elts if isinstance(inner, ast.Tuple) else [inner]
        types = [... if isinstance(item, ast.Constant) and item.value is ... else self._read(item) for item in items]
        match name:
            case "tuple":
                return GenericAlias(tuple, tuple(types))
            case "list" | "Sequence":
                return GenericAlias(list, (types[0],))
            case "dict" | "Mapping":
                return GenericAlias(dict, (types[0], types[1]))
        return Any


def encode(value: Any) -> str:
    """Values as JSON, in which pydantic is strict and yet reads lists as tuples."""
    return json.dumps(value)
