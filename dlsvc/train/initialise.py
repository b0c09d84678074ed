"""Chained runs: parameters that start from published bundles."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from dlsvc.errors import UsageError
from dlsvc.store.models import ModelStore


def initialise(model: nn.Module, init_from: Mapping[str, str], home: str) -> None:
    """Copy parameters matched by each glob from its bundle.

    `{"vision_encoder.*": "vit@best"}`: the part of the glob before its last dot is this model's prefix; the bundle's
    names are the same whole names, or what is left when some of the prefix is cut off. A glob that matches nothing, a
    name that the bundle lacks and a shape that differs are errors.
    """
    store = ModelStore(Path(home))
    own = dict(model.state_dict())
    for glob, reference in init_from.items():
        names = fnmatch.filter(own, glob)
        if not names:
            raise UsageError(
                f"init_from: {glob!r} matches no parameter of this model; its names begin {_beginnings(own)}"
            )
        given = store.open(reference).weights()
        prefix = glob.rpartition(".")[0]
        with torch.no_grad():
            for name in names:
                own[name].copy_(_source(name, prefix, given, own[name], reference))


def _beginnings(names: Iterable[str]) -> str:
    return ", ".join(sorted({name.partition(".")[0] for name in names}))


def _source(name: str, prefix: str, given: Mapping[str, Tensor], target: Tensor, reference: str) -> Tensor:
    parts = prefix.split(".") if prefix and "*" not in prefix else []
    names = [name.removeprefix(".".join([*parts[:count], ""])) for count in range(len(parts) + 1)]
    found = next((given[key] for key in names if key in given), None)
    if found is None:
        raise UsageError(
            f"init_from: {reference} has no parameter {names[-1]!r} for {name!r}; "
            f"it has {', '.join(sorted(given)[:8])} ..."
        )
    if found.shape != target.shape:
        raise UsageError(f"init_from: {name!r} is {tuple(target.shape)} here and {tuple(found.shape)} in {reference}")
    return found
