"""Published models: `name@3` is a version, `name@prod` an alias, `name` the newest version. Versions never change.

HOME/models/NAME/3/...          a bundle
HOME/models/NAME/aliases.json   {"prod": 3}
HOME/models/NAME/removed.json   {"newest": 4}, so that no later version gets the number of one that there was
HOME/models/NAME/.lock          whose holder adds, removes and names versions
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dlsvc.data.lock import locked
from dlsvc.errors import DlsvcError, NotFound, Refused, UsageError, did_you_mean
from dlsvc.spec.sections import ALIAS_PATTERN, NAME_PATTERN
from dlsvc.store.bundle import LINEAGE, Bundle, skim, write_bundle
from dlsvc.store.checkpoint import sync

_NAME = re.compile(NAME_PATTERN)
_ALIASES, _REMOVED, _LOCK, _DRAFT = "aliases.json", "removed.json", ".lock", ".draft-"


class ModelStore:
    def __init__(self, home: Path) -> None:
        self.root = home / "models"

    def names(self) -> list[str]:
        """Of the models that have a version."""
        return sorted(path.name for path in self.root.glob("*") if self.versions(path.name))

    def versions(self, name: str) -> list[int]:
        return sorted(int(path.name) for path in (self.root / name).glob("[0-9]*") if path.name.isdigit())

    def aliases(self, name: str) -> dict[str, int]:
        return _read(self.root / name / _ALIASES)

    def resolve(self, reference: str) -> tuple[str, int]:
        """`name`, `name@version` or `name@alias` -> (name, version). Raises NotFound with what there is."""
        name, _, which = reference.partition("@")
        if not _NAME.fullmatch(name) or (which and not _NAME.fullmatch(which)):
            raise UsageError(
                f"{reference!r} is not a model reference; write name, name@3 or name@alias (names: a-z, 0-9, -)"
            )
        versions = self.versions(name)
        if not versions:
            raise NotFound(
                f"no model is called {name!r}{did_you_mean(name, self.names())}; `dlsvc train` publishes one"
            )
        if not which:
            return name, versions[-1]
        version = int(which) if which.isdigit() else self.aliases(name).get(which)
        if version not in versions:
            known = [str(found) for found in versions] + sorted(self.aliases(name))
            raise NotFound(f"model {name!r} has no version or alias {which!r}; it has {', '.join(known)}")
        return name, int(version)

    def open(self, reference: str) -> Bundle:
        name, version = self.resolve(reference)
        return Bundle.open(self.root / name / str(version), f"{name}@{version}")

    def publish(self, name: str, weights: Mapping[str, Tensor], documents: Mapping[str, Any]) -> str:
        """Add a version, or find the one that this run has already published. Returns `name@version`. Raises
        UsageError for a name that no reference could have.
        """
        check_model_name(name)
        folder = self.root / name
        with locked(folder / _LOCK):
            version = self._published(name, documents[LINEAGE])
            if version is None:
                version = max([*self.versions(name), _read(folder / _REMOVED).get("newest", 0)]) + 1
                _add(folder / str(version), weights, documents)
        return f"{name}@{version}"

    def _published(self, name: str, lineage: Mapping[str, Any]) -> int | None:
        """The newest version that came out of the same run and is still as it was published."""
        for version in reversed(self.versions(name)):
            path = self.root / name / str(version)
            if _same_origin(path, lineage) and _is_whole(path):
                return version
        return None

    def alias(self, reference: str, alias: str) -> str:
        """Point an alias at a version."""
        if not (_NAME.fullmatch(alias) and re.fullmatch(ALIAS_PATTERN, alias)):
            raise UsageError(f"{alias!r} can't be an alias; use a-z, 0-9 and -, and not a number alone")
        name, _ = self.resolve(reference)
        with locked(self.root / name / _LOCK):
            _, version = self.resolve(reference)
            _write(self.root / name / _ALIASES, self.aliases(name) | {alias: version})
        return f"{name}@{version}"

    def remove(self, reference: str) -> str:
        """Delete a version that no alias names. Raises Refused when one does."""
        name, _ = self.resolve(reference)
        folder = self.root / name
        with locked(folder / _LOCK):
            _, version = self.resolve(reference)
            held = [alias for alias, target in self.aliases(name).items() if target == version]
            if held:
                raise Refused(f"{name}@{version} is {', '.join(held)}; move the alias first")
            _write(folder / _REMOVED, {"newest": max(version, _read(folder / _REMOVED).get("newest", 0))})
            shutil.rmtree(folder / str(version))
        return f"{name}@{version}"

    def describe(self, reference: str) -> dict[str, Any]:
        bundle = self.open(reference)
        name, version = self.resolve(reference)
        aliases = sorted(alias for alias, target in self.aliases(name).items() if target == version)
        return {
            "model": bundle.reference,
            "aliases": aliases,
            "config": bundle.config,
            "metrics": bundle.metrics,
            "lineage": bundle.lineage,
            "digests": bundle.digests,
            "path": str(bundle.path),
        }

    def table(self) -> list[dict[str, Any]]:
        """One row a version, newest last; of a damaged one what is wrong with it. Weights are not read."""
        return [self._row(name, version) for name in self.names() for version in self.versions(name)]

    def _row(self, name: str, version: int) -> dict[str, Any]:
        held = sorted(alias for alias, target in self.aliases(name).items() if target == version)
        row: dict[str, Any] = {
            "model": f"{name}@{version}",
            "aliases": held,
            "task": None,
            "metrics": {},
            "damage": None,
        }
        try:
            config, metrics = skim(self.root / name / str(version))
        except DlsvcError as error:
            return row | {"damage": str(error)}
        return row | {"task": config.get("task", {}).get("name"), "metrics": metrics}


def check_model_name(name: str) -> None:
    """Raises UsageError for what can't be a model's name: no reference could have it."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} can't be a model's name; use 1 to 63 of a-z, 0-9 and -")


def _same_origin(path: Path, lineage: Mapping[str, Any]) -> bool:
    """Whether a version came out of the same run: publishing twice must not make two."""
    try:
        there = json.loads((path / LINEAGE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return all(there.get(key) == lineage.get(key) for key in ("run", "weights_sha256", "identity"))


def _is_whole(path: Path) -> bool:
    try:
        Bundle.open(path)
    except DlsvcError:
        return False
    return True


def _add(target: Path, weights: Mapping[str, Tensor], documents: Mapping[str, Any]) -> None:
    """Write a version, which is there at once and whole, or not at all. Only the holder of the lock writes drafts, so
    those that are there are of publishers that were killed.
    """
    for left in target.parent.glob(f"{_DRAFT}*"):
        shutil.rmtree(left)
    draft = target.with_name(f"{_DRAFT}{uuid.uuid4().hex}")
    try:
        write_bundle(draft, weights, documents)
        os.rename(draft, target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    sync(target.parent)
    sync(target.parent.parent)


def _read(path: Path) -> dict[str, int]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _write(path: Path, numbers: Mapping[str, int]) -> None:
    draft = path.with_suffix(f".{uuid.uuid4().hex}")
    draft.write_text(json.dumps(numbers, sort_keys=True) + "\n")
    sync(draft)
    os.replace(draft, path)
    sync(path.parent)
