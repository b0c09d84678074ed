"""The specs that come with dlsvc: beside the package in a checkout, under `share/` where it is installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from dlsvc.errors import NotFound, Refused, did_you_mean
from dlsvc.registry import Entry, entries, resolve
from dlsvc.spec.document import read


def folder() -> Path:
    """Where the recipes are. Raises NotFound when they were not installed."""
    places = [Path(__file__).parents[2] / "jobs", Path(sys.prefix) / "share" / "dlsvc" / "jobs"]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise NotFound(f"the recipes are not installed; looked in {' and '.join(str(place) for place in places)}")
    return found


def recipes() -> dict[str, Path]:
    """Every recipe by its name, `chapter/file` without the ending."""
    root = folder()
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.rglob("*.yaml"))}


def find(name: str) -> Path:
    """The recipe of that name; the chapter may be left out where the file's name says enough."""
    known = recipes()
    wanted = name.removesuffix(".yaml")
    matches = [path for full, path in known.items() if wanted in (full, full.rpartition("/")[2])]
    if len(matches) != 1:
        hint = (
            did_you_mean(wanted, known)
            if not matches
            else f"; give the chapter too: {', '.join(sorted(map(str, matches)))}"
        )
        raise NotFound(f"no recipe is called {name!r}{hint}")
    return matches[0]


def describe(name: str, path: Path) -> dict[str, Any]:
    """One row of `recipes ls`: what it is, as far as the file says, and the first line of its comment."""
    body, lines = _body(path), path.read_text(encoding="utf-8").splitlines()
    comment = next((line.lstrip("# ") for line in lines if line.startswith("#")), "")
    return {"recipe": name, "kind": body.get("kind"), "name": body.get("name"), "about": comment, "path": str(path)}


def copy(name: str, target: Path) -> Path:
    """Copy a recipe to edit it. Never writes over a file."""
    source = find(name)
    target = target / source.name if target.is_dir() else target
    if target.exists():
        raise Refused(f"{target} exists; choose another name or move it away")
    target.write_bytes(source.read_bytes())
    return target


def systems() -> list[dict[str, Any]]:
    """One row a registered model: the recipe that trains it, on which data, and the metric that tells how well."""
    files = {name: _body(path) for name, path in recipes().items()}
    return [_system(model, files) for model in entries("model").values()]


def _system(model: Entry, files: dict[str, dict[str, Any]]) -> dict[str, Any]:
    trains = [
        name
        for name, body in files.items()
        if body.get("kind") == "train" and _part(body, "model").get("name") == model.name
    ]
    # The file named after the model comes before those that merely use it.
    recipe = min(trains, key=lambda name: (not name.rpartition("/")[2].startswith(model.name), name), default=None)
    body = files[recipe] if recipe else {}
    task = _part(body, "task").get("name") or model.options["task"]
    row = {"model": model.name, "task": task, "recipe": recipe, "data": _part(body, "data").get("source")}
    return row | {"metric": model.options.get("metric") or resolve("task", task).options["metrics"][0]}


def _body(path: Path) -> dict[str, Any]:
    tree = read(path.read_bytes(), str(path), [])
    return tree.plain() if tree is not None and isinstance(tree.value, dict) else {}


def _part(body: dict[str, Any], name: str) -> dict[str, Any]:
    found = body.get(name)
    return found if isinstance(found, dict) else {}
