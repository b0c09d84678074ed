from __future__ import annotations

import json

import pytest

from dlsvc.data.chat_input import IMAGE_ID, ChatInput, said_in, turns_of
from dlsvc.data.codecs import together, unreadable
from dlsvc.data.preprocess import Preprocess
from dlsvc.data.tokenizer import WordTokenizer
from dlsvc.errors import DataError
from dlsvc.models.llava import IMAGE_ID as MODELS_ID

WORDS = ("user", "assistant", "is", "it", "red", "yes", "no")
CHAT = ChatInput(WordTokenizer(WORDS), 16, "question", "answer", 2)
BOS, EOS, USER, ASSISTANT, IS, IT, RED, YES, NO = 1, 2, 4, 5, 6, 7, 8, 9, 10


def test_turns_places_and_what_is_learnt() -> None:
    (conversation,) = CHAT.of_rows({"question": ["is it red?"], "answer": ["yes"]})
    found = CHAT.encode([conversation])
    expected = [BOS, USER, IMAGE_ID, IMAGE_ID, IS, IT, RED, ASSISTANT, YES, EOS]
    assert found["tokens"][0].tolist() == [*expected, *[0] * 6]
    assert found["attention_mask"][0].tolist() == [True] * 10 + [False] * 6
    assert found["answer_mask"][0].nonzero()[0].tolist() == [8, 9]
    assert IMAGE_ID == MODELS_ID


def test_several_turns_and_one_too_long() -> None:
    turns = [*turns_of("is it red?", "yes"), {"from": "human", "value": "it?"}, {"from": "gpt", "value": "no"}]
    chat = ChatInput(CHAT.tokenizer, 16, "conversation", None, 2)
    found = chat.encode([json.dumps(turns)])
    assert found["tokens"][0, 10:].tolist() == [USER, IT, ASSISTANT, NO, EOS, 0]
    assert found["answer_mask"][0].nonzero()[0].tolist() == [8, 9, 13, 14]
    short = ChatInput(CHAT.tokenizer, 9, "conversation", None, 2).encode([json.dumps(turns)])
    assert short["tokens"][0].tolist() == found["tokens"][0, :9].tolist()
    assert chat.length(json.dumps(turns)) == 15
    assert said_in(json.dumps(turns)).split() == ["USER:", "is", "it", "red?", "ASSISTANT:", "yes", "USER:", "it?"] + [
        "ASSISTANT:",
        "no",
    ]


def test_a_request_is_a_question_that_waits_for_its_answer() -> None:
    asked = CHAT.encode([CHAT.request("is it red?", 1)])
    # The token that ends a text stands there as it does in all requests; generation takes it off again.
    assert asked["tokens"][0, :10].tolist() == [BOS, USER, IMAGE_ID, IMAGE_ID, IS, IT, RED, ASSISTANT, EOS, 0]
    plain = CHAT.encode([CHAT.request("is it red?")])
    assert plain["tokens"][0, :6].tolist() == [BOS, USER, IS, IT, RED, ASSISTANT]
    with pytest.raises(DataError, match="must be a text, or a list of turns"):
        CHAT.request(3)


def test_several_images_stand_where_they_are_named_or_before_what_is_asked() -> None:
    named = [{"from": "human", "value": "is <image> red? is <image>"}]
    before = CHAT.encode([CHAT.request("is it red?", 2)])["tokens"][0]
    assert before[:12].tolist() == [BOS, USER, *[IMAGE_ID] * 4, IS, IT, RED, ASSISTANT, EOS, 0]
    within = CHAT.encode([CHAT.request(named, 2)])["tokens"][0]
    assert within[:12].tolist() == [BOS, USER, IS, IMAGE_ID, IMAGE_ID, RED, IS, IMAGE_ID, IMAGE_ID, ASSISTANT, EOS, 0]
    with pytest.raises(DataError, match="<image> stands 2 times in it, and it comes with 1 images"):
        CHAT.request(named, 1)


def test_a_row_shows_all_its_images() -> None:
    image = together([b"one", b"two"])
    (asked,) = CHAT.of_rows({"question": ["is it red?"], "answer": ["yes"], "image": [image]})
    assert json.loads(asked)[0]["value"] == "<image>\n<image>\nis it red?"
    chat = ChatInput(CHAT.tokenizer, 16, "conversation", None, 2)
    rows = {"conversation": [json.dumps(turns_of("is it red?", "yes"))], "image": [image], "uri": ["a.parquet#1"]}
    with pytest.raises(DataError, match="a.parquet#1: <image> stands 1 times in it, and it has 2 images"):
        chat.of_rows(rows)
    # What can't be read is a bad sample, which decoding finds.
    assert chat.of_rows({**rows, "image": [unreadable("gone")]}) == rows["conversation"]


def test_round_trip_through_the_bundle() -> None:
    preprocess = Preprocess(text=CHAT)
    assert Preprocess.from_json(json.loads(json.dumps(preprocess.to_json()))) == preprocess


def test_a_missing_column_is_named() -> None:
    with pytest.raises(DataError, match="the data has no answer column; it has question"):
        CHAT.of_rows({"question": ["is it red?"]})
