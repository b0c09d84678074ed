"""The dialect as pure functions."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlsvc.data.codecs import decode_image
from dlsvc.errors import DataError, UsageError
from dlsvc.predictor import Piece
from serving.dialects import huggingface
from tests.serving.client import as_json, as_text

TASKS = (
    "classification",
    "audio-classification",
    "text-classification",
    "contrastive",
    "reconstruction",
    "adversarial",
    "word-embedding",
)

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_NAMES = ("top_k", "seed", "candidate_labels", "hypothesis_template", "normalize", "prompt", "other")
_parameters = st.fixed_dictionaries({}, optional=dict.fromkeys(_NAMES, _json))


@given(st.sampled_from(TASKS), st.binary(max_size=64), st.sampled_from(["", "application/json", "image/png"]))
def test_any_bytes_are_a_request_or_a_usage_error(task: str, body: bytes, content_type: str) -> None:
    _parse(task, body, content_type)


@given(st.sampled_from(TASKS), _json, _json | _parameters, st.dictionaries(st.text(max_size=8), _json, max_size=2))
def test_any_json_is_a_request_or_a_usage_error(task: str, inputs: Any, parameters: Any, extra: dict[str, Any]) -> None:
    body = json.dumps({**extra, "inputs": inputs, "parameters": parameters}).encode()
    found = _parse(task, body, "application/json")
    for item in found.inputs if found else []:
        ((name, value),) = item.items()
        assert isinstance(
            value, {"image": bytes, "audio": bytes, "text": str, "features": list, "seed": int, "class": str}[name]
        )


@given(st.sampled_from(TASKS), st.integers(1, 50_000))
def test_deep_nesting_is_a_usage_error(task: str, depth: int) -> None:
    _parse(task, b'{"inputs":' + b"[" * depth + b"]" * depth + b"}", "application/json")


def _parse(task: str, body: bytes, content_type: str) -> huggingface.Request | None:
    try:
        return huggingface.parse(task, body, content_type)
    except (UsageError, DataError) as error:
        huggingface.encode({"error": str(error)})
        return None


@pytest.mark.parametrize(
    ("task", "body", "message"),
    [
        ("classification", b'{"a": 1}', 'a JSON object with "inputs"'),
        ("classification", as_json("??"), "not an image in base64"),
        ("classification", as_json([]), "a list of numbers"),
        ("classification", as_json([[1, "2"]]), "row 0 holds a text"),
        ("classification", as_json([[1, 2], [1, float("nan")]]), "row 1 holds nan"),
        ("classification", as_json([10**400]), "finite numbers"),
        ("classification", as_json("", top_k=0), '"top_k" must be an integer from 1'),
        ("classification", as_json("", topk=1), "did you mean 'top_k'"),
        ("classification", as_json("", function_to_apply="sigmoid"), 'can only be "softmax"'),
        ("reconstruction", as_json("", seed=-1), '"seed" must be an integer from 0'),
        ("reconstruction", as_json("", seed=2**63), '"seed" must be an integer from 0'),
        ("adversarial", b"\x89PNG", "reads no images"),
        ("contrastive", as_json({}), "a text or a list of texts"),
        ("contrastive", as_json("\ud800"), "not a text"),
        ("contrastive", as_json("x" * 100_001), "at most 100000"),
        ("contrastive", as_json(["a"] * 1001), "1 to 1000 inputs"),
        ("contrastive", as_json("", candidate_labels=["a"]), "at least two"),
        ("contrastive", as_json("", candidate_labels=["a", "b"], hypothesis_template="x"), "{}"),
        ("language-modeling", as_json("a", stream=1), "true or false"),
        ("language-modeling", as_json(["a", "b"], stream=True), "a stream is of one text, not of 2"),
        ("translation", as_json("a", stream=True), "can only be false"),
        ("conversation", as_json({"question": "a", "image": []}), "an empty list"),
        ("conversation", as_json({"question": "a", "image": ["", 3]}), '"image 1" must be an image in base64'),
        ("conversation", as_json("", question="a", top_k=3), "a question gets one answer"),
        ("conversation", as_json("what colour?", image=as_text(b"x")), '"image" belongs into "inputs", beside its'),
        ("bootstrapped", as_json("a cat", num_beams=2), '"num_beams" is for writing of .* of texts vectors are made'),
        ("bootstrapped", as_json({"image": "", "text": "a"}, length_penalty=2), '"length_penalty" .* to match or not'),
        ("contrastive", as_json("a cat", hypothesis_template="one {}"), 'give "candidate_labels" too'),
        ("segmentation", as_json("", function_to_apply="softmax"), "takes no parameter 'function_to_apply'"),
        ("language-modeling", as_json("a", do_sample="yes"), '"do_sample" must be true or false'),
        ("language-modeling", as_json("a", return_full_text="no"), '"return_full_text" must be true or false'),
        ("word-embedding", as_json("a", normalize=1), '"normalize" must be true or false'),
        ("masked-language-modeling", as_json("a", normalize=False), '"normalize" can only be true here'),
        ("juggling", as_json(""), "no route"),
    ],
)
def test_the_error_says_what_would_be_right(task: str, body: bytes, message: str) -> None:
    with pytest.raises(UsageError, match=".*" + message.replace("{}", r"\{\}")):
        huggingface.parse(task, body)


def test_raw_bytes_and_base64_are_the_same_request() -> None:
    raw = huggingface.parse("classification", b"\x89PNG")
    coded = huggingface.parse("classification", as_json(as_text(b"\x89PNG")))
    url = huggingface.parse("classification", as_json("data:image/png;base64," + as_text(b"\x89PNG")))
    assert raw.inputs == coded.inputs == url.inputs == [{"image": b"\x89PNG"}]


def test_the_route_follows_what_a_model_reads() -> None:
    assert huggingface.route("classification", ("audio",)) == "audio-classification"
    assert huggingface.route("classification", ("text",)) == "text-classification"
    assert huggingface.route("classification", ("image", "text")) == "classification"
    assert huggingface.route("contrastive", ("text",)) == "contrastive"
    for kind in ("audio", "text", "video", "series"):
        assert huggingface.route("embedding", (kind,)) == f"{kind}-embedding"
    assert huggingface.route("embedding", ("features",)) == "embedding"


def test_sounds_and_texts_have_routes_of_their_own() -> None:
    raw = huggingface.parse("audio-classification", b"RIFF")
    assert raw.inputs == huggingface.parse("audio-classification", as_json(as_text(b"RIFF"))).inputs
    assert raw.inputs == [{"audio": b"RIFF"}]
    assert huggingface.parse("audio-classification", b"{}", "audio/wav").inputs == [{"audio": b"{}"}]
    assert huggingface.parse("text-classification", as_json("a cat")).inputs == [{"text": "a cat"}]
    with pytest.raises(UsageError, match='send JSON, such as {"inputs": "a text"}'):
        huggingface.parse("text-classification", b"RIFF")
    with pytest.raises(UsageError, match="not a sound in base64"):
        huggingface.parse("audio-classification", as_json("??"))


@pytest.mark.parametrize("kind", ["audio", "video"])
def test_vectors_of_files_and_of_series_are_asked_for_as_their_classes_are(kind: str) -> None:
    raw, coded = (huggingface.parse(f"{kind}-embedding", body) for body in (b"x", as_json(as_text(b"x"))))
    assert raw.inputs == coded.inputs == [{kind: b"x"}]
    assert huggingface.parse("series-embedding", as_json([[1, 2]])).inputs == [{"series": [[1, 2]]}]
    with pytest.raises(UsageError, match='"normalize" must be true or false'):
        huggingface.parse(f"{kind}-embedding", as_json("", normalize="no"))


def test_one_text_is_answered_by_a_list_of_one_as_the_client_expects() -> None:
    asked = huggingface.parse("text-classification", as_json("a cat", top_k=1))
    found = huggingface.answer("text-classification", asked, [{"scores": np.float32([0.25, 0.75])}], ["a", "b"])
    assert found.content == [[{"label": "b", "score": 0.75}]]


def test_an_image_type_makes_any_body_an_image() -> None:
    assert huggingface.parse("classification", b"{}", "image/png").inputs == [{"image": b"{}"}]


def test_parameters_may_stand_at_the_root() -> None:
    found = huggingface.parse("contrastive", b'{"inputs": "a cat", "normalize": true, "truncate": null}')
    assert found.inputs == [{"text": "a cat"}]


def test_zero_shot_asks_for_the_image_and_each_label_in_the_template() -> None:
    body = as_json(as_text(b"x"), candidate_labels=["cat", "{}"], hypothesis_template="one {}")
    assert huggingface.parse("contrastive", body).inputs == [{"image": b"x"}, {"text": "one cat"}, {"text": "one {}"}]


def test_scores_come_best_first_and_ties_in_the_order_of_classes() -> None:
    asked = huggingface.parse("classification", as_json([0.0], top_k=3))
    found = huggingface.answer("classification", asked, [{"scores": np.float32([0.25, 0.25, 0, 0.5])}], list("abcd"))
    assert found.content == [
        {"label": "d", "score": 0.5},
        {"label": "a", "score": 0.25},
        {"label": "b", "score": 0.25},
    ]


@pytest.mark.parametrize(
    ("text", "written", "separator", "whole"),
    [
        ("a red", "heart", " ", "a red heart"),
        ("a red ", "heart", " ", "a red heart"),
        ("a red", "", " ", "a red"),
        ("", "heart", " ", "heart"),
        ("a red", "der heart", "", "a redder heart"),
    ],
)
def test_a_text_and_what_is_written_after_it_are_joined_as_tokens_are(
    text: str, written: str, separator: str, whole: str
) -> None:
    asked = huggingface.parse("language-modeling", as_json(text, return_full_text=True))
    rows = [{"text": written, "separator": separator}]
    assert huggingface.answer("language-modeling", asked, rows, []).content == [{"generated_text": whole}]
    event = huggingface.event(asked, Piece(2, "", is_end=True, whole=written, separator=separator))
    assert json.loads(event.removeprefix(b"data:"))["generated_text"] == whole


def test_several_rows_get_a_list_each() -> None:
    asked = huggingface.parse("classification", as_json([[0.0], [1.0]]))
    rows = [{"scores": np.float32([1, 0])}, {"scores": np.float32([0, 1])}]
    found = huggingface.answer("classification", asked, rows, ["a", "b"])
    assert [row[0]["label"] for row in found.content] == ["a", "b"]


def test_zero_shot_scores_are_a_softmax_of_scaled_products() -> None:
    asked = huggingface.parse("contrastive", as_json("", candidate_labels=["a", "b"]))
    rows = [
        {"logit_scale": 2.0, "image_embed": np.float32([1, 0])},
        {"logit_scale": 2.0, "text_embed": np.float32([0, 1])},
        {"logit_scale": 2.0, "text_embed": np.float32([1, 0])},
    ]
    (first, second) = huggingface.answer("contrastive", asked, rows, []).content
    assert (first["label"], second["label"]) == ("b", "a")
    assert first["score"] == pytest.approx(np.exp(2) / (1 + np.exp(2)))


def test_of_several_templates_the_mean_direction_counts() -> None:
    body = as_json(as_text(b"x"), candidate_labels=["a", "b"], hypothesis_template=["one {}", "{} again"])
    asked = huggingface.parse("contrastive", body)
    assert [row["text"] for row in asked.inputs[1:]] == ["one a", "a again", "one b", "b again"]
    vectors = [[1, 0], [0, 1], [0.6, 0.8], [0.6, 0.8]]
    rows = [{"logit_scale": 10.0, "image_embed": np.float32([0.6, 0.8])}]
    rows += [{"logit_scale": 10.0, "text_embed": np.float32(vector)} for vector in vectors]
    first, second = huggingface.answer("contrastive", asked, rows, []).content
    assert (first["label"], second["label"]) == ("b", "a")
    apart = 10 * (1 - 1.4 * 0.5**0.5)  # the mean of a's is the diagonal
    assert first["score"] / second["score"] == pytest.approx(np.exp(apart), rel=1e-5)
    with pytest.raises(UsageError, match="where the label goes"):
        huggingface.parse("contrastive", as_json("", candidate_labels=["a", "b"], hypothesis_template=["{}", "x"]))


def test_a_picture_is_a_png_of_rounded_pixels() -> None:
    asked = huggingface.parse("adversarial", as_json("", seed=1))
    image = np.float32([[[0.0], [0.5]], [[1.0], [2.0]]])
    found = huggingface.answer("adversarial", asked, [{"image": image}], [])
    assert decode_image(found.png or b"", 1)[..., 0].tolist() == [[0, 128], [255, 255]]


def test_an_answer_that_is_not_finite_is_an_error() -> None:
    asked = huggingface.parse("classification", as_json([0.0]))
    with pytest.raises(DataError, match="not finite"):
        huggingface.answer("classification", asked, [{"scores": np.float32([np.nan, 1])}], ["a", "b"])


def test_vectors_have_length_one_where_that_is_asked_for() -> None:
    rows = [{"embedding": np.asarray([3.0, 4.0])}, {"embedding": np.zeros(2)}]
    for normalize, wanted in ((True, [[0.6, 0.8], [0.0, 0.0]]), (False, [[3.0, 4.0], [0.0, 0.0]])):
        asked = huggingface.parse("word-embedding", as_json(["a", "b"], normalize=normalize))
        assert huggingface.answer("word-embedding", asked, rows, ()).content == wanted
