from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dlsvc.data.cooccurrence import count_pairs
from dlsvc.data.tokenizer import WordTokenizer, split_words
from dlsvc.errors import DataError, Refused

TEXTS = ["the cat sat on the mat", "the cat", "cat", "", "a dog sat"]


def _definition(texts: list[str], words: tuple[str, ...], window: int) -> dict[str, float]:
    """Every pair of places at most a window apart, one by one."""
    found: dict[str, float] = {}
    for text in texts:
        here = split_words(text)
        for one in range(len(here)):
            for other in range(len(here)):
                if one != other and abs(one - other) <= window and {here[one], here[other]} <= set(words):
                    pair = f"{here[one]} {here[other]}"
                    found[pair] = found.get(pair, 0.0) + 1 / abs(one - other)
    return found


@pytest.mark.parametrize("window", [1, 3])
def test_counts_are_those_of_the_definition(window: int, ray_cluster: None, home: Path, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "texts" / "train.parquet")
    pq.write_table(pa.table({"text": ["unread"]}), tmp_path / "texts" / "test.parquet")
    target = tmp_path / "pairs"
    found = count_pairs(str(tmp_path / "texts"), target, home, vocab_size=4, window=window, min_count=0.0)
    words = WordTokenizer.fit(TEXTS, 8).words
    rows = [row for split in ("train", "test") for row in pq.read_table(target / f"{split}.parquet").to_pylist()]
    assert {row["text"]: row["count"] for row in rows} == pytest.approx(_definition(TEXTS, words, window))
    assert found["pairs"] == len(rows) == found["train"] + found["test"]
    with pytest.raises(Refused, match="not empty"):
        count_pairs(str(tmp_path / "texts"), target, home, vocab_size=4, window=1, min_count=0.0)
    with pytest.raises(DataError, match="no pair of words in .* counts 99 or more"):
        count_pairs(str(tmp_path / "texts"), tmp_path / "none", home, vocab_size=4, window=1, min_count=99)
    with pytest.raises(DataError, match="iris has no text column"):
        count_pairs("iris", tmp_path / "iris", home, vocab_size=4, window=1, min_count=0.0)
