"""Published models: `name@3` is a version, `name@prod` an alias, `name` the newest version. Versions never change.

HOME/models/NAME/3/...          a bundle
HOME/models/NAME/aliases.json   {"prod": 3}
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dlsvc.errors import NotFound, Refused, UsageError, did_you_mean
from dlsvc.spec.sections import NAME_PATTERN
from dlsvc.store.bundle import LINEAGE, Bundle, write_bundle

_NAME = re.compile(NAME_PATTERN)


class ModelStore:
    def __init__(self, home: Path) -> None:
        self.root = home / "models"

    def names(self) -> list[str]:
        return sorted(path.name for path in self.root.glob("*") if path.is_dir()) if self.root.exists() else []

    def versions(self, name: str) -> list[int]:
        return sorted(int(path.name) for path in (self.root / name).glob("[0-9]*") if path.name.isdigit())

    def aliases(self, name: str) -> dict[str, int]:
        path = self.root / name / "aliases.json"
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}

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
        folder.mkdir(parents=True, exist_ok=True)
        for version in reversed(self.versions(name)):
            if _same_origin(folder / str(version), documents[LINEAGE]):
                return f"{name}@{version}"
        draft = folder / f".draft-{uuid.uuid4().hex}"
        write_bundle(draft, weights, documents)
        while True:
            version = max(self.versions(name), default=0) + 1
            # A rename onto a version that somebody published meanwhile fails; then take the next.
            with contextlib.suppress(OSError):
                os.rename(draft, folder / str(version))
                return f"{name}@{version}"

    def alias(self, reference: str, alias: str) -> str:
        """Point an alias at a version."""
        if not _NAME.fullmatch(alias) or alias.isdigit():
            raise UsageError(f"{alias!r} can't be an alias; use a-z, 0-9 and -, and not a number alone")
        name, version = self.resolve(reference)
        path = self.root / name / "aliases.json"
        draft = path.with_suffix(f".{uuid.uuid4().hex}")
        draft.write_text(json.dumps(self.aliases(name) | {alias: version}, sort_keys=True) + "\n")
        os.replace(draft, path)
        return f"{name}@{version}"

    def remove(self, reference: str) -> str:
        """Delete a version that no alias names. Raises Refused when one does."""
        name, version = self.resolve(reference)
        held = [alias for alias, target in self.aliases(name).items() if target == version]
        if held:
            raise Refused(f"{name}@{version} is {', '.join(held)}; move the alias first")
        shutil.rmtree(self.root / name / str(version))
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
        """One row a version, newest last."""
        rows = []
        for name in self.names():
            aliases = self.aliases(name)
            for version in self.versions(name):
                bundle = Bundle.open(self.root / name / str(version), f"{name}@{version}")
                held = sorted(alias for alias, target in aliases.items() if target == version)
                rows.append(
                    {
                        "model": bundle.reference,
                        "aliases": held,
                        "task": bundle.config["task"]["name"],
                        "metrics": bundle.metrics,
                    }
                )
        return rows


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
