"""What the driver settles before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlsvc.data.preprocess import Preprocess
from dlsvc.data.text_input import TextInput
from dlsvc.errors import UsageError
from dlsvc.spec.schema import TrainSpec
from dlsvc.train import prepare
from tests.train.tiny_systems import TINY
from tests.train.trials import spec_of


@pytest.mark.parametrize(("limit", "feed", "verdict"), [(1 << 30, "resident", "fits"), (1000, "stream", "doesn't fit")])
def test_auto_feed_goes_by_size_and_says_so(
    limit: int, feed: str, verdict: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "RESIDENT_BYTES", limit)
    said: list[str] = []
    spec, run = prepare.open_run(spec_of("lenet5", data__feed="auto"), f"prepare-{feed}", home)
    assert prepare.prepare_job(spec, run, home, said.append).feed == feed
    assert [verdict in line and line.endswith(f"its feed is {feed}") for line in said] == [True]


def test_a_vocabulary_of_the_catalog_is_pulled_and_read(home: Path) -> None:
    spec, run = prepare.open_run(_texts_in("minilm"), "prepare-minilm", home)
    text = Preprocess.from_json(prepare.prepare_job(spec, run, home).preprocess).text
    assert isinstance(text, TextInput)
    assert text.tokenizer.vocab_size == 30522
    assert text.tokenizer.decode(text.tokenizer.encode("A man is eating food.")) == "a man is eating food."
    spec, run = prepare.open_run(_texts_in("efficientnet-lite0"), "prepare-none", home)
    with pytest.raises(UsageError, match=r"efficientnet-lite0 has no tokenizer\.json"):
        prepare.prepare_job(spec, run, home)


def test_a_folder_of_the_fields_own_files_is_a_vocabulary(home: Path, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nman\n")
    spec, run = prepare.open_run(_texts_in(str(tmp_path)), "prepare-folder", home)
    text = Preprocess.from_json(prepare.prepare_job(spec, run, home).preprocess).text
    assert isinstance(text, TextInput)
    assert text.encode(["A man!"])["tokens"].tolist() == [[2, 4, 5, 1, 3, 0, 0, 0]]


def test_a_value_that_the_task_refuses_is_told_before_anything_starts(home: Path) -> None:
    spec, run = prepare.open_run(spec_of("lenet5", task={"args": {"label_smoothing": 1.5}}), "prepare-wrong", home)
    with pytest.raises(UsageError, match=r"label_smoothing must be in \[0, 1\)"):
        prepare.prepare_job(spec, run, home)


def _texts_in(vocabulary: str) -> TrainSpec:
    text = {"vocabulary": vocabulary, "max_seq_len": 8}
    args = {**TINY["text_classifier"]["model"]["args"], "vocab_size": 30522}
    model = {"name": "text_classifier", "args": args}
    return spec_of("text_classifier", model=model, data={"source": "wordnet", "limit": 100, "text": text})
