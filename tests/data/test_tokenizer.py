from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlsvc.data.tokenizer import (
    BOS_ID,
    EOS_ID,
    PAD_ID,
    UNK_ID,
    ByteTokenizer,
    WordTokenizer,
    build_tokenizer,
    encode_batch,
    tokenizer_from_json,
)
from dlsvc.errors import DataError, UsageError

TEXTS = ["A cat, a dog", "the CAT sat", "snake_case isn't one word"]

repeatable = settings(deadline=None, derandomize=True, database=None, max_examples=50)


def test_vocabulary_is_by_frequency_then_alphabet() -> None:
    tokenizer = WordTokenizer.fit(TEXTS, 4096)
    assert tokenizer.words[:4] == ("a", "cat", "case", "dog")
    assert tokenizer.encode("a DOG?") == [4, 7]


def test_vocabulary_holds_the_special_ids() -> None:
    tokenizer = WordTokenizer.fit(TEXTS, 6)
    assert tokenizer.vocab_size == 6
    assert tokenizer.encode("dog cat") == [UNK_ID, 5]
    assert WordTokenizer.fit(TEXTS, 2).words == ()


def test_batch_is_padded_and_masked() -> None:
    tokens, mask = encode_batch(WordTokenizer.fit(TEXTS, 4096), ["a cat", ""], 5)
    assert tokens.tolist() == [[BOS_ID, 4, 5, EOS_ID, PAD_ID], [BOS_ID, EOS_ID, PAD_ID, PAD_ID, PAD_ID]]
    assert mask.tolist() == [[True] * 4 + [False], [True] * 2 + [False] * 3]


def test_truncation_keeps_eos() -> None:
    tokens, mask = encode_batch(ByteTokenizer(), ["abcdef"], 4)
    assert tokens[0].tolist() == [BOS_ID, ord("a") + 4, ord("b") + 4, EOS_ID]
    assert mask.all()


def test_decoding_stops_at_eos() -> None:
    tokenizer = WordTokenizer.fit(TEXTS, 4096)
    assert tokenizer.decode([BOS_ID, 4, UNK_ID, 5, EOS_ID, 4]) == "a <unk> cat"


@repeatable
@given(st.text())
def test_bytes_round_trip(text: str) -> None:
    tokenizer = ByteTokenizer()
    assert tokenizer.decode([BOS_ID, *tokenizer.encode(text), EOS_ID]) == text


@repeatable
@given(st.lists(st.text(), min_size=1, max_size=5), st.integers(2, 20), st.sampled_from(["word", "byte"]))
def test_shapes_and_range(texts: list[str], length: int, name: str) -> None:
    tokenizer = build_tokenizer(name, texts, 64)
    tokens, mask = encode_batch(tokenizer, texts, length)
    assert tokens.shape == mask.shape == (len(texts), length)
    assert (tokens.dtype, mask.dtype) == (np.int64, np.bool_)
    assert tokens.min() >= 0
    assert tokens.max() < tokenizer.vocab_size
    assert ((tokens == PAD_ID) == ~mask).all()
    assert ((tokens == EOS_ID).sum(axis=1) == 1).all()


@pytest.mark.parametrize("name", ["word", "byte"])
def test_json_round_trip(name: str) -> None:
    tokenizer = build_tokenizer(name, TEXTS, 9)
    kept = tokenizer_from_json(json.loads(json.dumps(tokenizer.to_json())))
    assert kept == tokenizer
    assert kept.encode("the cat sat") == tokenizer.encode("the cat sat")


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("word", "the cat", "sat"),
        ("wordpiece", "the cat", "sat"),
        ("character", "the CAT", " sat"),
        ("byte", "the CAT", " sat"),
        ("bpe", "the CAT", " sat"),
    ],
)
def test_decoded_texts_are_joined_as_one_text_is_decoded(name: str, first: str, second: str) -> None:
    tokenizer = tokenizer_from_json(build_tokenizer(name, TEXTS, 300).to_json())
    ids, more = tokenizer.encode(first), tokenizer.encode(second)
    assert tokenizer.decode(ids) + tokenizer.separator + tokenizer.decode(more) == tokenizer.decode([*ids, *more])


def test_unknown_tokenizer() -> None:
    with pytest.raises(UsageError, match="did you mean 'word'"):
        build_tokenizer("words", [], 9)
    with pytest.raises(DataError, match="newer version"):
        tokenizer_from_json({"name": "bpe"})
