"""`dlsvc predict`: what it refuses. What it answers is compared with a server in test_server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dlsvc.errors import DataError, NotFound, UsageError
from serving.predict import predict_command


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("iris", {}, "give one of"),
        ("iris", {"features": [1, 2, 3, 4], "seed": 1}, "features and seed"),
        ("iris", {"text": "a"}, "reads no text"),
        ("vae", {"features": [1]}, "reads no features"),
        ("clip", {"text": "a", "labels": ["a", "b"]}, "labels are for an image"),
        ("gan", {"image": __file__}, "reads no images"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(
    model: str, arguments: dict[str, Any], message: str, published: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        predict_command(f"test-{model}", home=published, **arguments)


def test_a_file_that_cannot_be_used_is_a_data_error(published: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.png can't be read"):
        predict_command("test-lenet5", home=published, image=tmp_path / "nothing.png")
    with pytest.raises(DataError, match="not a PNG"):
        predict_command("test-lenet5", home=published, image=__file__)


def test_an_unknown_model_is_not_found(published: Path) -> None:
    with pytest.raises(NotFound, match="did you mean"):
        predict_command("test-lenet", home=published, seed=1)


def test_a_picture_goes_where_it_is_asked_to(published: Path, tmp_path: Path) -> None:
    found = predict_command("test-gan", home=published, seed=1, out=tmp_path / "new" / "it.png")
    assert found["path"] == str(tmp_path / "new" / "it.png")
    assert (tmp_path / "new" / "it.png").read_bytes()[:4] == b"\x89PNG"
