"""Texts written anew by models: a chain of translations, a text gone on from, and what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dlsvc.data.source import open_source
from dlsvc.errors import DataError, Refused, UsageError
from dlsvc.rewrite import rewrite
from dlsvc.spec.data_sections import DataSpec
from tests.serving.conftest import publish

TEXTS = ["Open the table.", "Close it", "", "word " * 400, "Enter the name of a file here."]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    rows = [{"text": text, "label": ("long", "short")[len(text) < 10]} for text in TEXTS]
    for split in ("train", "test"):
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")
    return folder


def _rows(folder: Path, split: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder / f"{split}.parquet").to_pylist()
    return found


def test_a_chain_is_one_model_after_the_other(texts: Path, home: Path, tmp_path: Path) -> None:
    french, novel = publish("french", home), publish("novel", home)
    found = rewrite(str(texts), tmp_path / "more", [french, novel], home)
    rows = _rows(tmp_path / "more", "train")
    given, written = rows[: len(TEXTS)], rows[len(TEXTS) :]
    assert [row["text"] for row in given] == TEXTS
    assert {row["origin"] for row in given} == {"given"}
    assert {row["origin"] for row in written} == {"written"}
    assert (found["given"], found["written"], found["train"]) == (5, len(written), 5 + len(written))
    assert _rows(tmp_path / "more", "test") == _rows(texts, "test")
    (tmp_path / "half").mkdir()
    rewrite(str(texts), tmp_path / "once", [french], home)
    half = [row for row in _rows(tmp_path / "once", "train") if row["origin"] == "written"]
    assert half
    for split in ("train", "test"):
        pq.write_table(pa.Table.from_pylist(half), tmp_path / "half" / f"{split}.parquet")
    rewrite(str(tmp_path / "half"), tmp_path / "twice", [novel], home)
    assert [row["text"] for row in _rows(tmp_path / "twice", "train")[len(half) :]] == [row["text"] for row in written]
    # What comes out can be trained on.
    source = open_source(DataSpec(source=str(tmp_path / "more")), home)
    assert source.classes == ("long", "short")
    assert len(source.table("train")) == found["train"]
    with pytest.raises(Refused, match="not empty"):
        rewrite(str(texts), tmp_path / "more", [french], home)


def test_a_language_model_goes_on_from_the_first_half(texts: Path, home: Path, tmp_path: Path) -> None:
    reference = publish("novel", home)
    rewrite(str(texts), tmp_path / "more", [reference], home, temperature=1.0)
    written = [row for row in _rows(tmp_path / "more", "train") if row["origin"] == "written"]
    beginnings = ["Open the", "Close", "Enter the name of"]
    assert [(row["label"]) for row in written] == ["long", "short", "long"]  # neither the empty nor the endless one
    for row, beginning in zip(written, beginnings, strict=True):
        assert row["text"].startswith(beginning)
    again = rewrite(str(texts), tmp_path / "again", [reference], home, temperature=1.0)
    assert _rows(tmp_path / "again", "train") == _rows(tmp_path / "more", "train")
    assert again["by"] == [reference]


def test_what_can_not_write_or_be_written_is_refused(texts: Path, home: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="of task contrastive; texts are written by one of language-modeling"):
        rewrite(str(texts), tmp_path / "no", [publish("clip", home)], home)
    with pytest.raises(DataError, match="digits has no text column"):
        rewrite("digits", tmp_path / "no", [publish("novel", home)], home)
    assert not (tmp_path / "no").exists()
