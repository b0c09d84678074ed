"""One query for every modality: a sample of the data, given as a user would give it, finds itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from dlsvc.cli import main
from dlsvc.data.codecs import encode_png
from dlsvc.data.preprocess import Preprocess
from dlsvc.data.table import Table
from dlsvc.errors import DataError, UsageError
from dlsvc.neighbors.command import neighbors, source_of
from dlsvc.store.bundle import Bundle
from dlsvc.store.models import ModelStore
from tests.serving.conftest import publish

# By what a query is given as, the models that make a vector of it.
ENCODERS = {
    "image": ("lenet5", "vgg16", "resnet34", "efficientnet", "vit", "autoencoder", "kl_autoencoder", "vae", "clip"),
    "text": ("hidden", "glosses", "words", "glove", "french"),  # bert, text_classifier, word2vec, glove, transformer
    "audio": ("audio_cnn", "audio_transformer"),
    "video": ("video_cnn", "temporal_segment", "video_transformer"),
    "series": ("series_cnn", "series_transformer"),
}
CASES = [(kind, model) for kind, models in ENCODERS.items() for model in models]
CASES += [("image", "blip"), ("image", "blip2_qformer")]
SAMPLE = 3


def given(kind: str, value: Any, folder: Path) -> str:
    """A sample as an option of the command has it."""
    if kind == "text":
        return str(value)
    path = folder / f"asked.{kind}"
    if kind == "series":
        path.write_text(json.dumps(np.asarray(value).tolist()))
    else:
        path.write_bytes(value if isinstance(value, bytes) else encode_png(np.asarray(value)))
    return str(path)


def asked(reference: str, *options: str) -> dict[str, Any]:
    arguments = ["neighbors", reference, *options, "--json"]
    found: dict[str, Any] = json.loads(
        CliRunner().invoke(main, arguments, catch_exceptions=False).stdout.splitlines()[-1]
    )
    return found


@pytest.mark.parametrize(("kind", "model"), CASES)
def test_a_sample_finds_itself_and_is_drawn(kind: str, model: str, home: Path, tmp_path: Path) -> None:
    bundle = ModelStore(home).open(publish(model, home))
    table = source_of(bundle, None, home).table("test")
    sample = _short(bundle, table) if kind == "text" else SAMPLE
    value = table.rows(np.asarray([sample]))[kind][0]
    grid = tmp_path / "grid.png"
    options = ("--split", "test", "-k", "3", "--metric", "euclidean")
    found = asked(bundle.reference, f"--{kind}", given(kind, value, tmp_path), "--grid", str(grid), *options)
    distances = {row["id"]: row["distance"] for row in found["neighbors"]}
    assert next(iter(distances.values())) == pytest.approx(0, abs=1e-3)
    assert distances.get(sample, 0) == pytest.approx(0, abs=1e-3)  # it, or others that are the same
    by_number = asked(bundle.reference, "--id", str(sample), *options)["neighbors"]
    assert sample not in [row["id"] for row in by_number]
    with Image.open(grid) as image:
        pixels = np.asarray(image)
    assert pixels.shape == (116, 4 * 100, 3)
    cells = [pixels[:98, 100 * place : 100 * (place + 1)] for place in range(4)]
    assert all(np.ptp(cell) > 0 for cell in cells)
    if sample in distances:
        assert np.array_equal(cells[0], cells[1 + list(distances).index(sample)])  # the query, and itself


def _short(bundle: Bundle, table: Table) -> int:
    """The first sample whose text the model reads whole."""
    text = Preprocess.from_json(bundle.preprocess).text
    assert text is not None
    few = table.rows(np.arange(200))["text"]
    return next(place for place, one in enumerate(few) if len(one) > 2 and text.length(one) <= text.max_seq_len)


def test_a_text_finds_images(home: Path, tmp_path: Path) -> None:
    """The query is drawn as what it is, between neighbours that are something else."""
    reference, grid = publish("clip", home), str(tmp_path / "grid.png")
    found = asked(reference, "--text", "a red heart", "--split", "test", "-k", "2", "--grid", grid)
    assert {"text", "score"} <= set(found["neighbors"][0])
    with Image.open(tmp_path / "grid.png") as image:
        assert image.size == (3 * 100, 116)


@pytest.mark.parametrize(
    ("model", "query", "error", "message"),
    [
        ("series_cnn", {"series": "[[1, 2]]"}, DataError, "a series of shape"),
        ("series_cnn", {"series": "[[1, 2]"}, DataError, "is not JSON"),
        ("audio_cnn", {"audio": "no sound"}, DataError, "not a WAV"),
        ("video_cnn", {"video": "no film"}, DataError, "not a PNG"),
        ("video_cnn", {"audio": "no film"}, DataError, "holds audio; this model reads video"),
        ("bert", {"text": "word " * 99}, DataError, "tokens, its ends included, and the model reads at most 8$"),
        ("unet", {"id": 1}, UsageError, "doesn't make a vector of a sample"),
    ],
)
def test_what_is_no_query(
    model: str, query: dict[str, Any], error: type[Exception], message: str, home: Path, tmp_path: Path
) -> None:
    reference = publish(model, home)
    for name in query.keys() - {"text", "id"}:
        (tmp_path / "asked").write_text(query[name])
        query = {name: tmp_path / "asked"}
    with pytest.raises(error, match=message):
        neighbors(reference, home, query=query, split="test", k=1)
