from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from dlsvc.augment.geometry import HorizontalFlip, Rotation
from dlsvc.augment.text import RandomDeletion
from dlsvc.cli import main
from dlsvc.data import gallery, show
from dlsvc.data.catalog import entries
from dlsvc.errors import NotFound


def test_ls_tells_what_is_here(tmp_path: Path) -> None:
    show.pull("xor", tmp_path)
    found = {row["name"]: row for row in show.ls(tmp_path)}
    assert list(found) == list(entries())
    assert [name for name, row in found.items() if row["pulled"]] == ["xor"]
    assert found["emoji"]["download_bytes"] > 100e6


def test_weights_stand_beside_the_sets(tmp_path: Path) -> None:
    listed = {row["name"]: row for row in show.ls_weights(tmp_path)}
    kinds = {name: row["kind"] for name, row in listed.items()}
    assert kinds == {"minilm": "weights", "efficientnet-lite0": "weights", "word-lists": "lists"}
    assert show.describe("minilm", tmp_path) == listed["minilm"]


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


def test_augmented_pictures_stand_beside_their_samples(data_home: Path, tmp_path: Path) -> None:
    facts = show.describe("digits", data_home, tmp_path / "augmented.png", augmentations=[Rotation(30)])
    with Image.open(facts["augmented"]["grid"]) as image:
        assert image.size == (1000, 8 * 116)
        cells = np.asarray(image).reshape(8, 116, 10, 100, 3).swapaxes(1, 2)[:, :, 2:98, 2:98]
    assert (cells[:, 0] != cells[:, 1]).any(axis=(1, 2, 3)).all()
    assert (cells[:, 1] != cells[:, 2]).any(axis=(1, 2, 3)).all()


def test_augmented_films_are_four_frames_in_a_square(data_home: Path, tmp_path: Path) -> None:
    facts = show.describe("wesnoth", data_home, tmp_path / "films.png", augmentations=[HorizontalFlip(1.0)])
    with Image.open(facts["augmented"]["grid"]) as image:
        sheet = np.asarray(image)
    one, flipped = (sheet[2:98, left + 2 : left + 98] for left in (0, 100))
    assert (one < 250).any()
    np.testing.assert_array_equal(flipped[:, :48], one[:, :48][:, ::-1])
    np.testing.assert_array_equal(flipped[:, 48:], one[:, 48:][:, ::-1])


def test_augmented_texts_stand_beside_their_samples(data_home: Path) -> None:
    facts = show.describe("emoji", data_home, augmentations=[RandomDeletion(0.5)])
    assert all(len(versions[1]) <= len(versions[0]) for versions in facts["augmented"]["texts"])
    assert any(versions[1] != versions[0] for versions in facts["augmented"]["texts"])


def test_stats(data_home: Path) -> None:
    facts = show.describe("digits", data_home, stats=True)["stats"]
    assert facts["image"]["sizes"] == {"8x8": 1500}
    assert facts["image"]["mean"][0] == pytest.approx(0.3052, abs=1e-3)
    assert facts["image"]["std"][0] == pytest.approx(0.3749, abs=1e-3)


def test_a_steady_tone_is_a_line_in_its_spectrogram() -> None:
    tone = np.sin(2 * np.pi * 1000 / 8000 * np.arange(8000)).astype(np.float32)
    picture = gallery.spectrogram(tone)
    assert set(picture.argmax(axis=0)) == {picture.shape[0] - 1 - 32}


def test_the_command_checks_what_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLSVC_HOME", str(tmp_path))
    done = CliRunner().invoke(main, ["data", "show", "xor", "--augment", "[{name: rotation, max_degree: 3}]"])
    assert (done.exit_code, "did you mean 'max_degrees'" in done.output) == (2, True)
