"""JSON Schema of specs, as the YAML language server reads it: draft 7, with the names that are registered here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from dlsvc.augment import registry as augmentations
from dlsvc.data.catalog import entries as catalog
from dlsvc.errors import UsageError, did_you_mean
from dlsvc.registry import entries
from dlsvc.spec.schema import KINDS, Spec

_DRAFT = "http://json-schema.org/draft-07/schema#"


def json_schema(kind: str | None = None) -> dict[str, Any]:
    """The schema of one kind of spec, or of any."""
    if kind is not None and kind not in KINDS:
        raise UsageError(f"no spec is of kind {kind!r}{did_you_mean(kind, KINDS)}")
    schema = TypeAdapter(KINDS[kind] if kind else Spec).json_schema()
    found: dict[str, Any] = _draft7(schema)
    _name_the_known(found.get("definitions", {}))
    if kind is not None:
        # A default makes it optional to pydantic; a file without it is refused.
        found["required"] = ["kind", *found["required"]]
    return {"$schema": _DRAFT, **found}


def _draft7(value: Any) -> Any:
    """`$defs` as `definitions`, `prefixItems` as a list of `items`."""
    if isinstance(value, list):
        return [_draft7(item) for item in value]
    if not isinstance(value, Mapping):
        return value.replace("#/$defs/", "#/definitions/") if isinstance(value, str) else value
    found = {"definitions" if name == "$defs" else name: _draft7(item) for name, item in value.items()}
    if "prefixItems" in found:
        found["items"] = found.pop("prefixItems")
    return found


def _name_the_known(definitions: dict[str, Any]) -> None:
    """Registered names complete in an editor. A source may also be a path, so its names are only offered."""
    offers = {
        "ModelSpec": ("name", {"enum": sorted(entries("model"))}),
        "TaskSpec": ("name", {"enum": [*sorted(entries("task")), None]}),
        "AugmentSpec": ("name", {"enum": sorted(augmentations.entries())}),
        "DataSpec": ("source", {"anyOf": [{"enum": sorted(catalog())}, {"type": "string"}]}),
    }
    for section, (field, offer) in offers.items():
        if section in definitions:
            definitions[section]["properties"][field].update(offer)
