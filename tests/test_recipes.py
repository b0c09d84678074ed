"""Every recipe is sound, says how to run it, and what to expect of it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from dlsvc.spec.load import load

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "jobs").rglob("*.yaml"))
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_is_sound_and_says_what_to_expect(path: Path) -> None:
    spec = load(path)
    command, measured = path.read_text(encoding="utf-8").splitlines()[:2]
    assert command == f"# dlsvc {spec.kind} {path.relative_to(ROOT)}"
    assert measured.startswith("# 2 CPU cores")
    assert re.search(r"\b20\d\d-\d\d-\d\d\b", measured)
    assert re.search(r"\d s\b", measured)


def test_names_are_unique() -> None:
    names = [load(path).name for path in RECIPES]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("path", [path for path in RECIPES if load(path).kind == "train"], ids=lambda path: path.stem)
def test_readme_lists_the_recipe(path: Path) -> None:
    assert f"`{path.relative_to(ROOT)}`" in README


def test_an_installation_brings_every_folder_of_recipes() -> None:
    files = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["data-files"]
    assert {f"share/dlsvc/{path.parent.relative_to(ROOT)}" for path in RECIPES} == set(files)
