"""Trained weights of the catalog as published models."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dlsvc.data.catalog import entry
from dlsvc.data.codecs import encode_png
from dlsvc.data.fetch import fetch, members
from dlsvc.predictor import Predictor
from dlsvc.store.exchange import import_trained
from dlsvc.store.models import ModelStore
from dlsvc.train.needs import settle_needs
from serving.predictor import served
from tests.train.trials import spec_of

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
