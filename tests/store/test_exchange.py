"""Trained weights of the catalog as published models, and directories that can't become one."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dlsvc.data.catalog import entry
from dlsvc.data.codecs import encode_png
from dlsvc.data.fetch import fetch, members
from dlsvc.errors import DataError
from dlsvc.predictor import Predictor
from dlsvc.registry import resolve
from dlsvc.store.bundle import build_model
from dlsvc.store.exchange import export_bundle, import_bundle, import_trained
from dlsvc.store.interchange import export_directory
from dlsvc.store.models import ModelStore
from dlsvc.train.needs import settle_needs
from serving.predictor import served
from tests.train.trials import spec_of, train_in_group

CATS = range(281, 286)
ESPRESSO = 967


@pytest.fixture(scope="module")
def photographs(home: Path) -> dict[str, bytes]:
    package = next(package for package in entry("photos").packages if package.name == "scikit-image")
    wanted = {name for name in package.members if name.endswith(("chelsea.png", "coffee.png"))}
    found = members(package, fetch(package, home), wanted.__contains__)
    return {Path(name).stem: content for name, content in found}


@pytest.fixture(scope="module")
def lite0(home: Path) -> Predictor:
    store = ModelStore(home)
    return served(store.open(import_trained(store, entry("efficientnet-lite0"), home, "trial-lite0")))


def test_lite0_names_the_cat_and_the_espresso(lite0: Predictor, photographs: dict[str, bytes]) -> None:
    """The photographs whole, squeezed into a square, as a request brings them."""
    cat, coffee = lite0.predict([{"image": photographs["chelsea"]}, {"image": photographs["coffee"]}])
    assert cat["label_id"] in CATS
    assert coffee["label_id"] == ESPRESSO


def test_lite0_scores_as_another_implementation(lite0: Predictor, photographs: dict[str, bytes]) -> None:
    """The scores that another implementation gives for the middle squares, resized by cubic interpolation."""
    cat, coffee = lite0.predict([{"image": _middle(photographs[name])} for name in ("chelsea", "coffee")])
    np.testing.assert_allclose(cat["scores"][[285, 282, 281]], (0.385, 0.332, 0.163), atol=0.002)
    np.testing.assert_allclose(coffee["scores"][[967, 968, 925]], (0.940, 0.017, 0.008), atol=0.002)


def test_a_run_that_starts_from_trained_weights_publishes_them_first(home: Path, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(home / "data", target_is_directory=True)
    spec = spec_of("lenet5", init_from={"stem.*": "efficientnet-lite0"}, storage=str(tmp_path))
    assert settle_needs(spec, make=False, address=None) == ["efficientnet-lite0@1"]
    assert settle_needs(spec, make=False, address=None) == []
    assert ModelStore(tmp_path).open("efficientnet-lite0").config["model"] == {"name": "efficientnet", "args": {}}


@pytest.fixture(scope="module")
def minilm(home: Path) -> Predictor:
    store = ModelStore(home)
    return served(store.open(import_trained(store, entry("minilm"), home, "trial-minilm")))


def test_minilm_hides_words_by_its_own_mask(minilm: Predictor, home: Path) -> None:
    assert ModelStore(home).open("trial-minilm").config["task"]["args"] == {"mask_id": 103}


def test_minilm_knows_a_paraphrase(minilm: Predictor) -> None:
    """The cosines that its published weights give elsewhere."""
    texts = ("A man is eating food.", "Someone is having a meal.", "The stock market fell today.")
    one, paraphrase, other = (row["embedding"] for row in minilm.predict([{"text": text} for text in texts]))
    assert one @ paraphrase == pytest.approx(0.6888, abs=5e-4)
    assert one @ other == pytest.approx(-0.0170, abs=5e-4)


def _middle(photograph: bytes) -> bytes:
    image = Image.open(io.BytesIO(photograph)).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
    return encode_png(np.asarray(square))


_VIT: dict[str, Any] = resolve("model", "vit").options["tiny"]


def _vit_saying(folder: Path, layout: str = "transformers", **says: Any) -> Path:
    """A tiny ViT's directory whose config.json also says so much."""
    torch.manual_seed(0)
    weights = build_model({"name": "vit", "args": _VIT}).state_dict()
    export_directory(folder, layout, "vit", args=_VIT, weights=weights)
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **says}))
    return folder


@pytest.mark.parametrize(
    ("says", "message"),
    [
        ({"hidden_size": "16"}, "unsupported operand"),
        ({"hidden_size": 0}, "division by zero"),
        ({"patch_size": 5}, "image_size 16 must be a multiple of patch_size 5"),
        ({"image_size": [16, 16]}, r"image_size is \[16, 16\]: Input should be a valid integer"),
        ({"layer_norm_eps": "1e-6"}, "norm_eps is '1e-6': Input should be a valid number"),
        ({"num_attention_heads": 3}, "num_heads 3"),
        ({"id2label": {"one": "a"}}, "invalid literal"),
        ({"id2label": 3}, "has no len"),
    ],
)
def test_a_config_of_wrong_values_is_named(says: dict[str, Any], message: str, home: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"vit/config\.json can't be used: .*{message}"):
        import_bundle(ModelStore(home), _vit_saying(tmp_path / "vit", **says), "test-none")


def test_a_missing_field_is_named(home: Path, tmp_path: Path) -> None:
    file = _vit_saying(tmp_path / "vit", "timm") / "config.json"
    file.write_text(
        json.dumps({name: value for name, value in json.loads(file.read_text()).items() if name != "num_classes"})
    )
    with pytest.raises(DataError, match=r"vit/config\.json can't be used: 'num_classes' is missing"):
        import_bundle(ModelStore(home), file.parent, "test-none")


def test_sizes_that_are_not_the_weights_are_named(home: Path, tmp_path: Path) -> None:
    """Before anything of their size is made: these would take a petabyte."""
    folder = _vit_saying(tmp_path / "vit", image_size=2**27)
    with pytest.raises(
        DataError,
        match=rf"config\.json doesn't fit the weights: positions would be \({2**48 + 1}, 16\) and is \(5, 16\)$",
    ):
        import_bundle(ModelStore(home), folder, "test-none")
    folder = _vit_saying(tmp_path / "deeper", num_hidden_layers=3)
    with pytest.raises(
        DataError, match=r": blocks\.2\.attention\.key\.bias would be \(16,\) and is missing; .* and 14 more$"
    ):
        import_bundle(ModelStore(home), folder, "test-none")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "{", r"config\.json is not JSON"),
        ("config.json", "[]", r"config\.json must be a JSON object"),
        ("model.safetensors", "short", r"model\.safetensors can't be read"),
    ],
)
def test_a_file_that_is_none_is_named(name: str, content: str, message: str, home: Path, tmp_path: Path) -> None:
    (_vit_saying(tmp_path / "vit") / name).write_text(content)
    with pytest.raises(DataError, match=message):
        import_bundle(ModelStore(home), tmp_path / "vit", "test-none")


def test_a_truncated_file_is_named(home: Path, tmp_path: Path) -> None:
    file = _vit_saying(tmp_path / "vit") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"model\.safetensors can't be read"):
        import_bundle(ModelStore(home), tmp_path / "vit", "test-none")


@pytest.mark.parametrize("library", ["transformers", "timm"])
def test_images_are_standardised_there_and_back_as_they_were(library: str, home: Path, tmp_path: Path) -> None:
    image = {"size": 8, "mean": [0.2], "std": [0.7]}
    spec = spec_of("vit", data={"source": "digits", "image": image}, budget={"steps": 1}, publish__name="trial-dark")
    reference = train_in_group(spec, home, run_name=f"dark-{library}", world_size=1)["model"]
    store = ModelStore(home)
    export_bundle(store.open(reference), tmp_path / "dark", library)
    found = store.open(import_bundle(store, tmp_path / "dark", f"dark-{library}"))
    assert found.preprocess["image"] == store.open(reference).preprocess["image"]


def test_images_of_a_directory_that_says_nothing_come_from_plus_to_minus_one(home: Path, tmp_path: Path) -> None:
    store = ModelStore(home)
    found = store.open(import_bundle(store, _vit_saying(tmp_path / "vit"), "plain-vit")).preprocess["image"]
    assert (found["mean"], found["std"]) == ([0.5] * found["channels"], [0.5] * found["channels"])


@pytest.mark.parametrize(
    ("says", "message"),
    [
        ({"do_rescale": False}, "levels are not divided by 255"),
        ({"rescale_factor": 1 / 127.5}, "levels are not divided by 255"),
        ({"image_mean": [0.5, 0.5], "image_std": [0.5, 0.5]}, "an image of the model has . channels"),
        ({"image_std": "much"}, "could not convert string to float"),
    ],
)
def test_images_that_are_made_otherwise_are_refused(
    says: dict[str, Any], message: str, home: Path, tmp_path: Path
) -> None:
    (_vit_saying(tmp_path / "vit") / "preprocessor_config.json").write_text(json.dumps(says))
    with pytest.raises(DataError, match=f"preprocessor_config.json .*{message}"):
        import_bundle(ModelStore(home), tmp_path / "vit", "test-none")
