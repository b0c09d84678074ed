"""Training on rows that nobody hopes for: each is learnt from, or quarantined with the reason, and nothing is NaN."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dlsvc.data.fit import build_preprocess, check_texts
from dlsvc.data.source import open_source
from dlsvc.errors import DataError
from dlsvc.spec.data_sections import DataSpec
from dlsvc.store.runs import RunStore
from tests.serving import awkward
from tests.serving.client import chirp, film, picture
from tests.train.tiny_systems import TINY
from tests.train.trials import SYSTEMS, spec_of, train_in_group

_COUNT = 40
_WORDS = ["red", "blue", "wild", "tame", "sad"]
TEXTS: list[str | None] = [f"a {_WORDS[place % 5]} cat {place}" for place in range(_COUNT)]
TEXTS += [*awkward.TEXTS.values(), *awkward.LONG.values(), None]
LABELS = [("one", "other")[place % 2] for place in range(len(TEXTS))]
PICTURES = [picture(place, 3) for place in range(len(TEXTS))]
_TEXT = {"tokenizer": "word", "vocab_size": 32, "max_seq_len": 8}


@dataclass(frozen=True)
class Rows:
    """A system, the columns of its data, what its spec says of them, and why which row, after the good ones, is bad."""

    system: str
    columns: dict[str, list[Any]]
    data: dict[str, Any] = field(default_factory=dict)
    args: dict[str, Any] = field(default_factory=dict)
    bad: dict[int, str] = field(default_factory=dict)


def files(kind: str, good: Callable[[int], bytes], known: dict[str, bytes], wrong: dict[str, tuple[bytes, str]]) -> Any:
    """A column of good files, awkward ones, wrong ones and missing ones, with labels; and the wrong ones' reasons."""
    column: list[bytes | None] = [good(place) for place in range(_COUNT)] + list(known.values())
    bad = {len(column) + place: reason for place, (_, reason) in enumerate(wrong.values())}
    column += [file for file, _ in wrong.values()] + [b"", None]
    bad |= {len(column) - 2: "the file is empty", len(column) - 1: f"the row has no {kind}"}
    return {kind: column, "label": [LABELS[place % 2] for place in range(len(column))]}, bad


def _pairs(system: str) -> Rows:
    data = {**SYSTEMS, **TINY}[system]["data"]
    return Rows(system, {"image": PICTURES, "text": TEXTS}, {"image": data["image"], "text": data["text"]})


def _media(system: str, kind: str, good: Callable[[int], bytes], known: Any, wrong: Any, **args: Any) -> Rows:
    data = {**SYSTEMS, **TINY}[system]["data"]
    columns, bad = files(kind, good, known, wrong)
    return Rows(system, columns, {kind: data[kind]}, {"num_classes": 2, **args}, bad)


def _series() -> Rows:
    draws = np.random.default_rng(0).normal(size=(_COUNT, 200, 6)).tolist()
    wrong = [series for what, (series, _) in awkward.WRONG_SERIES.items() if what in ("not a number", "missing")]
    column = [*draws, *awkward.SERIES.values(), *wrong, None, awkward.WRONG_SERIES["more than fits"][0]]
    last = len(column)
    bad = dict.fromkeys(range(last - 4, last), "isn't a finite number")
    columns = {"series": column, "label": [LABELS[place % 2] for place in range(last)]}
    return Rows("series_cnn", columns, args={"num_classes": 2}, bad=bad)


def _chat() -> Rows:
    questions = [text if text is None else f"{text} is it?" for text in TEXTS]
    bad = {
        place: "every answer is beyond the first 24"
        for place in range(len(TEXTS))
        if (TEXTS[place] or "") in awkward.LONG.values()
    }
    text = SYSTEMS["llava"]["data"]["text"]
    return Rows(
        "llava",
        {"image": PICTURES, "question": questions, "answer": TEXTS[::-1]},
        {"image": {"size": 16, "channels": 3}, "text": text},
        bad=bad,
    )


_LABELLED = {"text": TEXTS, "label": LABELS}
CASES = {
    "classification": Rows("text_classifier", _LABELLED, {"text": _TEXT}, {"num_classes": 2}),
    "language-modeling": Rows("gpt2", {"text": TEXTS}, {"text": {**_TEXT, "tokenizer": "character"}}),
    "masked-language-modeling": Rows("bert", {"text": TEXTS}, {"text": {**_TEXT, "tokenizer": "wordpiece"}}),
    "word-embedding": Rows("word2vec", {"text": TEXTS}, {"text": _TEXT}),
    # No two known words beside each other in any text.
    "word-embedding, alone": Rows("word2vec", {"text": ["cat", "", "dog", "2"] * 12}, {"text": _TEXT}),
    "translation": Rows(
        "transformer",
        {"text": TEXTS, "target_text": TEXTS[::-1]},
        {"text": {**_TEXT, "target": "target_text"}},
    ),
    "contrastive": _pairs("clip"),
    "bootstrapped": _pairs("blip"),
    "captioning": _pairs("blip2"),
    "conversation": _chat(),
    "latent-denoising": Rows(
        "latent_diffusion",
        {"image": PICTURES, "text": TEXTS},
        {
            "image": {"size": 8, "channels": 1, "mean": [0.5], "std": [0.5]},
            "text": {**_TEXT, "tokenizer": "character"},
        },
    ),
    "images": _media("lenet5", "image", picture, awkward.IMAGES, awkward.WRONG_IMAGES),
    "sounds": _media("audio_cnn", "audio", chirp, awkward.SOUNDS, awkward.WRONG_SOUNDS),
    "films": _media("video_cnn", "video", film, awkward.FILMS, awkward.WRONG_FILMS),
    "series": _series(),
}
QUICK = ("word-embedding, alone", "conversation", "films", "series")


def write(folder: Path, columns: dict[str, list[Any]]) -> str:
    """Both splits alike, as Parquet."""
    for split in ("train", "test"):
        pq.write_table(pa.table(columns), folder / f"{split}.parquet")
    return str(folder)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CASES]
)
def test_rows_are_learnt_from_or_quarantined(name: str, home: Path, tmp_path: Path) -> None:
    rows = CASES[name]
    model = {**SYSTEMS, **TINY}[rows.system]["model"]
    spec = spec_of(
        rows.system,
        model={"name": model["name"], "args": {**model["args"], **rows.args}},
        data={"source": write(tmp_path, rows.columns), "max_bad_fraction": 0.5, **rows.data},
        batch={"global_size": 16, "micro_size": 4},
        budget={"epochs": 2},
        evaluate={"split": "test"},
        strategy="plain",
        scaling__workers=1,
    )
    run_name = f"awkward-{name.replace(' ', '-').replace(',', '')}"
    result = train_in_group(spec, home, run_name=run_name, world_size=1)
    run = RunStore(home).open(run_name)
    found = {bad["id"]: bad["reason"] for bad in run.lines("quarantine.jsonl")} if rows.bad else {}
    assert found.keys() == rows.bad.keys()
    assert all(_said(rows.bad[place], reason) for place, reason in found.items()), found
    assert all(map(math.isfinite, result["metrics"].values())), result["metrics"]
    assert all(math.isfinite(record["loss"]) for record in run.trajectory())


def _said(pattern: str, reason: str) -> bool:
    return re.search(pattern, reason) is not None


def test_answers_beyond_what_is_read_are_no_right_answers(home: Path, tmp_path: Path) -> None:
    """With room for questions only, every conversation would count as answered right."""
    rows = CASES["conversation"]
    data = {"source": write(tmp_path, rows.columns), **rows.data, "text": {**rows.data["text"], "max_seq_len": 6}}
    spec = spec_of("llava", data=data, strategy="plain", scaling__workers=1, budget__steps=2)
    with pytest.raises((AssertionError, DataError), match="every answer is beyond the first 6 of the conversation's"):
        train_in_group(spec, home, run_name="awkward-no-answers", world_size=1)


def _checked(folder: Path, texts: list[str | None], home: Path) -> list[str]:
    said: list[str] = []
    data = DataSpec(source=write(folder, {"text": texts}), text={"tokenizer": "word", "max_seq_len": 8})  # type: ignore[arg-type]
    source = open_source(data, home)
    check_texts(build_preprocess(data, source), source.table("train"), said.append)
    return said


def test_how_many_texts_are_cut_is_said(home: Path, tmp_path: Path) -> None:
    (line,) = _checked(tmp_path, TEXTS, home)
    cut = len(awkward.LONG)
    assert line.startswith(f"text: {cut} of {len(TEXTS)} texts have more than data.text.max_seq_len = 8 tokens")
    (tmp_path / "short").mkdir()
    assert _checked(tmp_path / "short", ["a cat", ""], home) == []


def test_texts_without_a_token_are_no_data(home: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the text column: none of its texts has a token to learn from"):
        _checked(tmp_path, ["", "  ", None, "😀"], home)
