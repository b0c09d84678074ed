"""Texts token by token: what each piece says, and what is said when a model is lost on the way."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError

from dlsvc.data.text_input import TextInput
from dlsvc.data.tokenizer import build_tokenizer
from dlsvc.predictor import Piece, Predictor
from serving.app import _events
from serving.dialects import huggingface
from serving.predict import predict_command
from tests.serving.client import as_json


@pytest.mark.parametrize("how", [{}, {"temperature": 1.0}, {"max_new_tokens": 1}, {"max_new_tokens": 500}])
def test_pieces_are_the_prediction(how: dict[str, float], predictors: dict[str, Predictor]) -> None:
    predictor = predictors["novel"]
    for seed, text in enumerate(("She was", "", "Ähnlich")):
        item = {"text": text, "seed": seed, **how}
        (row,) = predictor.prepare([item])
        *most, last = predictor.stream(row)
        (whole,) = predictor.predict([item])
        assert "".join(piece.text for piece in [*most, last]) == whole["text"] == last.whole
        assert [piece.token for piece in [*most, last]] == whole["written"].tolist()[: len(most) + 1]
        assert not any(piece.is_end or piece.whole is not None for piece in most)


def test_the_command_says_each_piece(published: Path, predictors: dict[str, Predictor]) -> None:
    told: list[str] = []
    how = {"temperature": 1.0, "seed": 4}
    asked: dict[str, Any] = {"home": published, "text": "She was"}
    found = predict_command("test-novel", **asked, parameters={**how, "stream": True}, tell=told.append)
    assert len(told) > 1
    assert found == predict_command("test-novel", **asked, parameters=how)
    assert "".join(told) == found["answer"][0]["generated_text"]


def test_words_are_apart_from_those_before_them(
    published: Path, predictors: dict[str, Predictor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when they come one by one; byte pairs hold their spaces."""
    asked: dict[str, Any] = {"home": published, "text": "She was"}
    both = predict_command("test-novel", **asked, parameters={"return_full_text": True})["answer"]
    (alone,) = predict_command("test-novel", **asked)["answer"]
    assert both == [{"generated_text": "She was" + alone["generated_text"]}]
    predictor = predictors["novel"]
    words = TextInput(build_tokenizer("word", ["she was here"], 300), 24)
    monkeypatch.setattr(predictor, "preprocess", dataclasses.replace(predictor.preprocess, text=words))
    (row,) = predictor.prepare([{"text": "She was"}])
    assert {piece.separator for piece in predictor.stream(row)} == {" "}
    assert predictor.predict([{"text": "She was"}])[0]["separator"] == " "


def test_a_character_of_several_tokens_comes_whole(predictors: dict[str, Predictor]) -> None:
    predictor = predictors["novel"]
    tokenizer = predictor.preprocess.text.tokenizer  # type: ignore[union-attr]
    written = [*tokenizer.encode("é€ z"), tokenizer.special.eos]

    def stream(modules: object, batch: object) -> object:
        import torch

        for place, token in enumerate(written):
            yield torch.full((8,), token), torch.full((8,), place == len(written) - 1)

    (row,) = predictor.prepare([{"text": "a"}])
    usual, predictor.task.stream = predictor.task.stream, stream  # type: ignore[method-assign, assignment]
    try:
        pieces = list(predictor.stream(row))
    finally:
        predictor.task.stream = usual  # type: ignore[method-assign]
    assert all("\ufffd" not in piece.text for piece in pieces)
    assert "".join(piece.text for piece in pieces) == pieces[-1].whole == tokenizer.decode(written)
    assert [piece.is_end for piece in pieces] == [False] * (len(written) - 1) + [True]


def test_a_model_lost_on_the_way_is_the_last_event() -> None:
    asked = huggingface.parse("language-modeling", as_json("a", stream=True))

    async def pieces() -> AsyncIterator[Piece]:
        yield Piece(6, "c")
        raise ActorUnavailableError("gone", None)

    async def gathered() -> list[bytes]:
        return [event async for event in _events(asked, Piece(5, "b"), pieces())]

    events = asyncio.run(gathered())
    assert all(event.startswith(b"data:") and event.endswith(b"\n\n") for event in events)
    first, second, last = (json.loads(event.removeprefix(b"data:")) for event in events)
    assert (first["token"]["text"], second["token"]["text"], second["generated_text"]) == ("b", "c", None)
    assert last["error_type"] == "generation"
    assert "lost while it wrote" in last["error"]
