"""Every recipe is sound, says how to run it, and what to expect of it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from dlsvc.spec.load import load
from tests.recipes import in_order, with_result, with_row

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


def test_recipes_come_after_those_that_they_start_from() -> None:
    names = [path.stem for path in in_order(ROOT / "jobs")]
    assert len(names) == len(set(names)) == len([path for path in RECIPES if load(path).kind == "train"])
    assert names.index("srresnet-photos") < names.index("srgan-photos")
    assert names.index("resnet34-fashion-mnist") < names.index("gan-fashion-mnist")  # which is measured by its vectors


def test_a_run_brings_its_head_and_row_up_to_date() -> None:
    metrics = {"psnr": 43.06161, "ssim": 0.9, "psnr_bicubic": 42.3968, "d_real": 1.0}
    head = "# 2 CPU cores, 2 workers, 2026-11-23: 1394 s beside other work, psnr 42, ssim 0.93 (bicubic: 42.40).\n"
    wanted = "# 2 CPU cores, 2 workers, 2027-01-02: 241 s, psnr 43.06, ssim 0.9 (bicubic: 42.40).\n"
    assert with_result(head, metrics, 241.16, "2027-01-02") == wanted
    table = "| `jobs/a/b.yaml` | t | psnr -1.5, d_real 0.5; bicubic 42.40 | 7, beside other work |\n"
    assert with_row(f"x\n{table}y", "jobs/a/b.yaml", metrics, 9.6) == (
        "x\n| `jobs/a/b.yaml` | t | psnr 43.06, d_real 1; bicubic 42.40 | 10 |\ny"
    )
    with pytest.raises(ValueError, match=r"no row for jobs/a/c\.yaml"):
        with_row(table, "jobs/a/c.yaml", metrics, 1.0)
