"""The server through `huggingface_hub.InferenceClient`, as users call it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from dlsvc.predictor import Predictor
from tests.serving.client import Client, as_json, as_text, chirp, film, picture


def _model(client: Client, name: str) -> InferenceClient:
    return InferenceClient(model=f"{client.url}/models/test-{name}", token="none")


def test_image_classification(client: Client, predictors: dict[str, Predictor]) -> None:
    scores = predictors["lenet5"].predict([{"image": picture(0)}])[0]["scores"]
    found = _model(client, "lenet5").image_classification(picture(0))
    assert [row.label for row in found] == [str(place) for place in np.argsort(-scores)[:5]]
    assert [row.score for row in found] == sorted(scores.astype(float), reverse=True)[:5]
    few = _model(client, "lenet5").image_classification(picture(0), top_k=2, function_to_apply="softmax")
    assert few == found[:2]


def test_image_segmentation(client: Client, predictors: dict[str, Predictor]) -> None:
    (expected,) = predictors["nuclei"].predict([{"image": picture(0)}])
    model = _model(client, "nuclei")
    found = model.image_segmentation(picture(0))
    present = np.unique(expected["mask"])
    assert [row.label for row in found] == [("background", "nucleus")[place] for place in present]
    for row, place in zip(found, present, strict=True):
        inside = expected["mask"] == place
        assert np.array_equal(np.asarray(row.mask) == 255, inside)
        assert row.score == expected["score"][inside].astype(float).mean()
    assert model.image_segmentation(picture(0), threshold=1, subtask="semantic") == []


def test_audio_classification(client: Client, predictors: dict[str, Predictor]) -> None:
    scores = predictors["speech"].predict([{"audio": chirp(0)}])[0]["scores"]
    found = _model(client, "speech").audio_classification(chirp(0))
    assert [row.score for row in found] == sorted(scores.astype(float), reverse=True)
    assert {row.label for row in found} == {"en", "es", "fr", "it", "ru"}
    assert _model(client, "speech").audio_classification(chirp(0), top_k=1) == found[:1]


def test_text_classification(client: Client, predictors: dict[str, Predictor]) -> None:
    scores = predictors["glosses"].predict([{"text": "a large wild cat"}])[0]["scores"]
    found = _model(client, "glosses").text_classification("a large wild cat")
    assert [row.score for row in found] == sorted(scores.astype(float), reverse=True)
    assert {row.label for row in found} == {"noun", "verb", "adjective", "adverb"}


def test_text_generation(client: Client, predictors: dict[str, Predictor]) -> None:
    model = _model(client, "novel")
    found = model.text_generation("She was", max_new_tokens=5, do_sample=True, temperature=1.0, top_k=9, seed=3)
    asked = {"text": "She was", "seed": 3, "max_new_tokens": 5, "temperature": 1.0, "top_k": 9}
    assert found == predictors["novel"].predict([asked])[0]["text"]
    assert model.text_generation("She was", return_full_text=True).startswith("She was")


def test_text_generation_comes_token_by_token(client: Client, predictors: dict[str, Predictor]) -> None:
    model = _model(client, "novel")
    how: dict[str, Any] = {"max_new_tokens": 9, "temperature": 1.0, "top_k": 9, "seed": 3}
    (expected,) = predictors["novel"].predict([{"text": "She was", **how}])
    pieces = list(model.text_generation("She was", stream=True, do_sample=True, **how))
    assert len(pieces) == 9
    assert "".join(pieces) == expected["text"]
    reply = client.post("novel", as_json("She was", stream=True, return_full_text=True, **how), "application/json")
    assert reply.type.startswith("text/event-stream")
    *most, last = (json.loads(event.removeprefix(b"data:")) for event in reply.body.strip().split(b"\n\n"))
    assert [event["token"]["id"] for event in (*most, last)] == expected["written"].tolist()
    assert {event["generated_text"] for event in most} == {None}
    assert last["generated_text"] == "She was" + expected["text"]
    with pytest.raises(HfHubHTTPError, match="reads at most"):
        list(model.text_generation("She was " * 500, stream=True))
    # One who leaves in the middle holds nobody up.
    begun = model.text_generation("She was", stream=True, **how)
    assert next(iter(begun)) == pieces[0]
    del begun
    assert model.text_generation("She was", **how) == expected["text"]


def test_visual_question_answering(client: Client, predictors: dict[str, Predictor]) -> None:
    (found,) = _model(client, "chat").visual_question_answering(picture(0, 3), "is it red?")
    (expected,) = predictors["chat"].predict([{"image": picture(0, 3), "text": "is it red?"}])
    assert found.answer == expected["text"].strip()


def test_a_question_about_two_images(client: Client, predictors: dict[str, Predictor]) -> None:
    images = [picture(0, 3), picture(1, 3)]
    (expected,) = predictors["chat"].predict([{"image": images, "text": "is it red?"}])
    found = client.post("chat", as_json({"image": [as_text(image) for image in images], "question": "is it red?"}))
    assert found.json == [{"answer": expected["text"].strip()}]
    (other,) = predictors["chat"].prepare([{"image": images[::-1], "text": "is it red?"}])
    (first,) = predictors["chat"].prepare([{"image": images, "text": "is it red?"}])
    assert not np.array_equal(other["image"], first["image"])


def test_image_to_text(client: Client, predictors: dict[str, Predictor]) -> None:
    found = _model(client, "captions").image_to_text(picture(0, 3))
    assert found.generated_text == predictors["captions"].predict([{"image": picture(0, 3)}])[0]["text"]
    vector = _model(client, "captions").feature_extraction("an emoji of a cat")
    (expected,) = predictors["captions"].predict([{"text": "an emoji of a cat"}])
    assert np.array_equal(vector, expected["embedding"])


def test_translation(client: Client, predictors: dict[str, Predictor]) -> None:
    found = _model(client, "french").translation("open the file").translation_text
    assert found == predictors["french"].predict([{"text": "open the file"}])[0]["text"]


def test_fill_mask_and_feature_extraction(client: Client, predictors: dict[str, Predictor]) -> None:
    (expected,) = predictors["hidden"].predict([{"text": "a large <mask>"}])
    found = _model(client, "hidden").fill_mask("a large <mask>")
    assert [row.token for row in found] == expected["guesses"].tolist()
    assert [row.sequence for row in found] == [f"a large {row.token_str}" for row in found]
    vector = _model(client, "hidden").feature_extraction("a large cat")
    (expected,) = predictors["hidden"].predict([{"text": "a large cat"}])
    assert np.array_equal(vector, expected["embedding"])


def test_films_and_series(client: Client, predictors: dict[str, Predictor]) -> None:
    reply = client.post("film", film(0), "image/gif")
    scores = predictors["film"].predict([{"video": film(0)}])[0]["scores"]
    assert [row["score"] for row in reply.json] == sorted(scores.astype(float), reverse=True)
    series = np.random.default_rng(0).normal(size=(200, 6)).tolist()
    reply = client.post("watch", as_json(series), "application/json")
    scores = predictors["watch"].predict([{"series": series}])[0]["scores"]
    assert [row["score"] for row in reply.json] == sorted(scores.astype(float), reverse=True)[:5]


def test_zero_shot_image_classification(client: Client) -> None:
    labels = ["cat", "flag", "smile"]
    model = _model(client, "clip")
    found = model.zero_shot_image_classification(picture(0, 3), candidate_labels=labels)
    assert {row.label for row in found} == set(labels)
    assert sum(row.score for row in found) == pytest.approx(1)
    other = model.zero_shot_image_classification(picture(0, 3), labels, hypothesis_template="the flag of {}")
    assert other != found


def test_feature_extraction(client: Client, predictors: dict[str, Predictor]) -> None:
    found = _model(client, "clip").feature_extraction("a cat", normalize=True)
    assert np.array_equal(found, predictors["clip"].predict([{"text": "a cat"}])[0]["text_embed"])


def test_image_to_image(client: Client) -> None:
    found = _model(client, "vae").image_to_image(picture(0))
    assert found.size == (28, 28)


@pytest.mark.parametrize("name", ["vae", "gan"])
def test_text_to_image(name: str, client: Client) -> None:
    first, again, other = (_model(client, name).text_to_image("a digit", seed=seed) for seed in (1, 1, 2))
    assert first.size == (28, 28)
    assert first.tobytes() == again.tobytes() != other.tobytes()


def test_text_to_image_of_a_class(client: Client) -> None:
    model = _model(client, "ddpm")
    three, again, four, any_of_them = (model.text_to_image(name, seed=1) for name in ("3", "3", "4", ""))
    assert three.size == (8, 8)
    assert three.tobytes() == again.tobytes()
    assert len({image.tobytes() for image in (three, four, any_of_them)}) == 3
    with pytest.raises(HfHubHTTPError, match="no class is called 'three'"):
        model.text_to_image("three", seed=1)


def test_text_to_image_and_image_to_image_of_a_prompt(client: Client) -> None:
    model = _model(client, "prompted")
    asked = {"negative_prompt": "a picture of a 4", "num_inference_steps": 2, "guidance_scale": 3.0}
    one, again, other = (model.text_to_image(f"a picture of a {name}", seed=1, **asked) for name in "335")
    assert one.size == (16, 16)
    assert one.tobytes() == again.tobytes() != other.tobytes()
    near, far = (model.image_to_image(picture(0), prompt="a picture of a 3", strength=share) for share in (0.1, 1.0))
    assert near.size == (16, 16)
    assert near.tobytes() != far.tobytes()
    with pytest.raises(HfHubHTTPError, match="steps must be a whole number from 1 to 1000"):
        model.text_to_image("a picture of a 3", num_inference_steps=5000)


def test_the_client_shows_what_is_wrong(client: Client) -> None:
    with pytest.raises(HfHubHTTPError, match="takes no parameter .width."):
        _model(client, "gan").text_to_image("a digit", width=64)
