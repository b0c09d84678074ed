"""The server through `openai.OpenAI`, as users call it, and what its client doesn't show."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlsvc.errors import DataError, UsageError
from dlsvc.predictor import Predictor
from serving.dialects import openai as dialect
from serving.predict import predict_command
from serving.wire import MAX_BODY_BYTES
from tests.serving.client import Client
from tests.serving.conftest import MODELS

TEXTS = ["a large wild cat", "an emoji of a cat", "Élan 🙂", "run " * 300, " "]
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
# Models that make vectors of texts, and what their predictions call them.
ENCODERS = {"hidden": "embedding", "clip": "text_embed", "captions": "embedding", "minilm": "embedding"}


@pytest.fixture(scope="module")
def api(client: Client) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{client.url}/v1", api_key="none", max_retries=0, timeout=60) as found:
        yield found


def test_models_are_listed_and_shown(api: openai.OpenAI) -> None:
    listed = api.models.list().data
    assert [model.id for model in listed] == [f"test-{name}" for name in MODELS]
    assert {(model.object, model.owned_by) for model in listed} == {("model", "dlsvc")}
    assert all(model.created > 1_700_000_000 for model in listed)
    assert api.models.retrieve("test-minilm") in listed
    with pytest.raises(openai.NotFoundError) as caught:
        api.models.retrieve("nobody")
    assert "no model 'nobody' is served here" in caught.value.message
    assert (caught.value.type, caught.value.code, caught.value.param) == (
        "invalid_request_error",
        "model_not_found",
        "model",
    )


@pytest.mark.parametrize("name", ENCODERS)
def test_vectors_are_the_predictions_to_the_bit(
    name: str, api: openai.OpenAI, predictors: dict[str, Predictor]
) -> None:
    """The client asks for base64 unless it is told otherwise. BLIP also writes, and so refuses what it would cut."""
    texts = [text for text in TEXTS if name != "captions" or len(text) < 30]
    expected = predictors[name].predict([{"text": text, "truncate": True} for text in texts])
    for how in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
        found = api.embeddings.create(model=f"test-{name}", input=texts, **how)  # type: ignore[call-overload]
        assert (found.object, found.model) == ("list", f"test-{name}")
        assert [row.index for row in found.data] == list(range(len(texts)))
        for row, prediction in zip(found.data, expected, strict=True):
            given = row.embedding
            vector = np.frombuffer(base64.b64decode(given), "<f4") if isinstance(given, str) else np.asarray(given)
            assert vector.tolist() == prediction[ENCODERS[name]].tolist()


def test_the_command_gives_the_same_vectors(api: openai.OpenAI, published: Path) -> None:
    found = api.embeddings.create(model="test-minilm", input=TEXTS)
    said = predict_command("test-minilm", home=published, text=TEXTS, parameters={"truncate": True})
    assert [row.embedding for row in found.data] == said["answer"]


def test_one_text_and_what_it_cost(api: openai.OpenAI, predictors: dict[str, Predictor]) -> None:
    one = api.embeddings.create(model="test-minilm", input=TEXTS[0], user="somebody")
    several = api.embeddings.create(model="test-minilm", input=TEXTS)
    assert [row.embedding for row in one.data] == [several.data[0].embedding]
    # [CLS] a large wild cat [SEP]; what is longer than the model reads counts as it was cut.
    assert one.usage.prompt_tokens == one.usage.total_tokens == 6
    text = predictors["minilm"].preprocess.text
    assert text is not None
    lengths = [min(text.length(one), text.max_seq_len) for one in TEXTS]
    assert several.usage.prompt_tokens == sum(lengths)
    assert max(lengths) == 256


def test_minilm_knows_a_paraphrase(api: openai.OpenAI) -> None:
    texts = ["A man is eating food.", "Someone is having a meal.", "The stock market fell today."]
    found = api.embeddings.create(model="test-minilm", input=texts)
    one, paraphrase, other = (np.asarray(row.embedding) for row in found.data)
    assert one @ paraphrase == pytest.approx(0.6888, abs=5e-4)
    assert one @ other == pytest.approx(-0.0170, abs=5e-4)


def test_a_text_with_a_mask_has_a_vector_too(api: openai.OpenAI, predictors: dict[str, Predictor]) -> None:
    found = api.embeddings.create(model="test-hidden", input="a large <mask>")
    (expected,) = predictors["hidden"].predict([{"text": "a large <mask>"}])
    assert found.data[0].embedding == expected["embedding"].tolist()


def test_vectors_do_not_depend_on_who_else_asks(api: openai.OpenAI) -> None:
    alone = [api.embeddings.create(model="test-hidden", input=text).data[0].embedding for text in TEXTS]
    asked = [place % len(TEXTS) for place in range(40)]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda place: api.embeddings.create(model="test-hidden", input=TEXTS[place]), asked))
    assert [one.data[0].embedding for one in found] == [alone[place] for place in asked]


def test_as_many_texts_as_one_request_takes(api: openai.OpenAI) -> None:
    texts = [f"text {place}" for place in range(dialect.MAX_INPUTS)]
    found = api.embeddings.create(model="test-hidden", input=texts)
    assert len(found.data) == len(texts)
    assert found.data[-1].embedding == api.embeddings.create(model="test-hidden", input=texts[-1]).data[0].embedding
    with pytest.raises(openai.BadRequestError, match="takes 1 to 2048 texts, this one has 2049"):
        api.embeddings.create(model="test-hidden", input=[*texts, "one more"])


@pytest.mark.parametrize(
    ("asked", "param", "message"),
    [
        ({"input": ""}, "input", "input 0 is empty"),
        ({"input": []}, "input", "takes 1 to 2048 texts, this one has 0"),
        ({"input": ["a", ""]}, "input", "input 1 is empty"),
        ({"input": [1, 2, 3]}, "input", "input 0 is tokens by number"),
        ({"input": [[1, 2], [3]]}, "input", "input 0 is tokens by number"),
        ({"input": ["a", None]}, "input", "input 1 must be a text, not null"),
        ({"input": [{"text": "a"}]}, "input", "input 0 must be a text, not an object"),
        ({"input": True}, "input", "must be a text, not true or false"),
        ({"input": "a", "dimensions": 8}, "dimensions", "leave it out"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format", 'must be "float" or "base64", not "int8"'),
        ({"input": "a", "extra_body": {"truncat": 1}}, "truncat", "take no field 'truncat'"),
        ({"input": "a", "extra_body": {"inputs": "a"}}, "inputs", "did you mean 'input'?"),
        (
            {"input": ["a", "run " * 9], "model": "test-captions"},
            "input",
            "input 1, text: 11 tokens, its ends included",
        ),
        ({"input": "a", "model": "test-iris"}, "model", "test-iris is a classification model and makes no vectors"),
        ({"input": "a", "model": "test-novel"}, "model", "language-modeling model and makes no vectors"),
    ],
)
def test_a_wrong_request_says_what_is_wrong(
    asked: dict[str, Any], param: str, message: str, api: openai.OpenAI
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        api.embeddings.create(**{"model": "test-hidden", **asked})
    error = caught.value
    assert (error.status_code, error.type, error.param, error.code) == (400, "invalid_request_error", param, None)
    assert message in error.message


def test_a_model_that_is_not_served(api: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        api.embeddings.create(model="test-hiden", input="a")
    error = caught.value
    assert (error.type, error.param, error.code) == ("invalid_request_error", "model", "model_not_found")
    assert "did you mean 'test-hidden'?" in error.message


@pytest.mark.parametrize(
    ("method", "body", "status", "message"),
    [
        ("POST", b"", 400, "the body is empty; send JSON"),
        ("POST", b"{", 400, "not JSON"),
        ("POST", b"[" * 100_000, 400, "not JSON"),
        ("POST", b'["a"]', 400, "must be an object, not a list"),
        ("POST", b'{"input": "a"}', 400, '"model" is missing'),
        ("POST", b'{"model": "test-hidden"}', 400, '"input" is missing'),
        ("POST", b'{"model": 3, "input": "a"}', 400, '"model" must be a text, not a number'),
        ("POST", b'{"model": "test-hidden", "input": "\\ud800"}', 400, "input 0 is not a text"),
        ("POST", b"x" * (MAX_BODY_BYTES + 1), 413, str(MAX_BODY_BYTES)),
        ("GET", None, 405, "Method Not Allowed"),
    ],
)
def test_every_error_has_its_shape(method: str, body: bytes | None, status: int, message: str, client: Client) -> None:
    reply = client.send(method, dialect.EMBEDDINGS, body, "application/json")
    assert (reply.status, reply.type) == (status, "application/json")
    assert reply.json.keys() == {"error"}
    assert reply.json["error"].keys() == {"message", "type", "param", "code"}
    assert reply.json["error"]["type"] == "invalid_request_error"
    assert message in reply.json["error"]["message"]


def test_numbers_unless_asked_for_base64(client: Client) -> None:
    """As OpenAI documents the route; the client says what it wants."""
    body = json.dumps({"model": "test-hidden", "input": "a cat"}).encode()
    (row,) = client.send("POST", dialect.EMBEDDINGS, body, "application/json").json["data"]
    assert row["object"] == "embedding"
    assert len(row["embedding"]) == 16


@given(st.binary(max_size=64) | _json.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_a_request_or_a_usage_error(body: bytes) -> None:
    with contextlib.suppress(UsageError):
        found = dialect.parse(body)
        assert all(isinstance(item["text"], str) and item["text"] for item in found.inputs)


@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("model", "input", "encoding_format", "dimensions", "user"), _json)
    )
)
def test_any_fields_are_a_request_or_a_usage_error(fields: dict[str, Any]) -> None:
    with contextlib.suppress(UsageError):
        found = dialect.parse(json.dumps(fields).encode())
        assert isinstance(found.model, str)
        assert 1 <= len(found.inputs) <= dialect.MAX_INPUTS


def test_which_models_make_vectors() -> None:
    assert dialect.vector_key("words", "word-embedding", ["text"]) == "embedding"
    with pytest.raises(UsageError, match="shapes makes vectors of features, not of texts; POST to /models/shapes"):
        dialect.vector_key("shapes", "embedding", ["features"])


def test_what_is_not_finite_is_no_vector() -> None:
    asked = dialect.Request("words", [{"text": "a"}])
    with pytest.raises(DataError, match="not finite"):
        dialect.answer(asked, [{"embedding": np.asarray([1, np.inf], np.float32), "num_tokens": 3}], "embedding")
