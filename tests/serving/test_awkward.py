"""What nobody hopes for, asked of every model that reads it: an answer, equal to what `dlsvc predict` says, or an error
of the client's that says what would be right.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from dlsvc.errors import DataError, DlsvcError, UsageError
from dlsvc.predictor import Predictor
from serving.dialects import huggingface
from serving.predict import answer, route
from tests.serving import awkward
from tests.serving.client import Client, as_json, as_text, picture

_JSON = "application/json"
Case = tuple[str, str, bytes]


def texts(named: dict[str, str], **parameters: Any) -> Iterator[Case]:
    """Each text to each model that reads one, in every place that it has for texts."""
    image = as_text(picture(0, 3))
    for what, text in named.items():
        for model in ("glosses", "hidden", "words", "novel", "french", "clip", "captions", "chat", "prompted"):
            yield model, what, as_json(text, **parameters)
        yield "clip", f"{what}, a label", as_json(image, candidate_labels=["a cat", text], **parameters)
        yield "captions", f"{what}, of an image", as_json({"image": image, "text": text}, **parameters)
        yield "chat", f"{what}, of an image", as_json({"image": image, "question": text}, **parameters)
        yield "chat", f"{what}, in turn", as_json({"conversation": [{"from": "human", "value": text}]}, **parameters)
        yield "prompted", f"{what}, not wanted", as_json("a 3", negative_prompt=text, **parameters)


def images(named: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for what, file in named.items():
        for model in ("lenet5", "vae", "clip", "captions", "nuclei", "codes", "sharper", "prompted"):
            yield model, what, file


ANSWERED = [
    *texts(awkward.TEXTS),
    *images(awkward.IMAGES),
    *(("speech", what, file) for what, file in awkward.SOUNDS.items()),
    *(("film", what, file) for what, file in awkward.FILMS.items()),
    *(("watch", what, as_json(steps)) for what, steps in awkward.SERIES.items()),
]
REFUSED = [
    *((model, what, file, reason) for model, what, (file, reason) in images(awkward.WRONG_IMAGES)),
    *(("speech", what, file, reason) for what, (file, reason) in awkward.WRONG_SOUNDS.items()),
    *(("film", what, file, reason) for what, (file, reason) in awkward.WRONG_FILMS.items()),
    *(("watch", what, as_json(steps), reason) for what, (steps, reason) in awkward.WRONG_SERIES.items()),
]
# Those that write on from a text: its end is what counts.
WRITERS = ("novel", "french", "chat", "captions")


def asked(predictor: Predictor, body: bytes) -> huggingface.Answer:
    return answer(predictor, huggingface.parse(route(predictor), body))


def test_what_has_an_answer(predictors: dict[str, Predictor]) -> None:
    for model, what, body in ANSWERED:
        try:
            found = asked(predictors[model], body)
        except DlsvcError as error:
            pytest.fail(f"{model}, {what}: {error}")
        assert found.png or huggingface.encode(found.content), (model, what)


@pytest.mark.parametrize(("model", "what", "body", "reason"), REFUSED)
def test_what_is_refused_says_why(
    model: str, what: str, body: bytes, reason: str, predictors: dict[str, Predictor]
) -> None:
    with pytest.raises(DataError, match=reason):
        asked(predictors[model], body)


def test_a_text_that_is_too_long_is_refused_with_its_length(predictors: dict[str, Predictor]) -> None:
    for model, what, body in texts(awkward.LONG):
        with pytest.raises(DataError, match=r"\d+ tokens, its ends included, and the model reads at most \d+") as error:
            asked(predictors[model], body)
        assert (model in WRITERS) == ("with truncate" not in str(error.value)), (model, what)


def test_a_text_that_is_too_long_is_cut_when_that_is_asked_for(predictors: dict[str, Predictor]) -> None:
    """As in training: what is left is its beginning."""
    for model in ("glosses", "hidden", "words", "clip", "prompted"):
        predictor = predictors[model]
        assert predictor.preprocess.text is not None
        few = "cat " * (predictor.preprocess.text.max_seq_len - 2)
        long, short = (asked(predictor, as_json(text, truncate=True)) for text in (few + "dog " * 50, few))
        assert (long.content, long.png) == (short.content, short.png), model
    for model, _, body in texts(awkward.LONG, truncate=True):
        if model in WRITERS:
            with pytest.raises(UsageError, match="takes no parameter 'truncate'"):
                asked(predictors[model], body)
        else:
            asked(predictors[model], body)


def test_truncate_is_yes_or_no(predictors: dict[str, Predictor]) -> None:
    with pytest.raises(UsageError, match='"truncate" must be true or false, not a text'):
        asked(predictors["glosses"], as_json("a cat", truncate="yes"))


def test_of_an_unknown_word_the_vector_is_zero(predictors: dict[str, Predictor]) -> None:
    unknown, known = asked(predictors["words"], as_json(["zzqx", "of"])).content
    assert set(unknown) == {0.0}
    assert set(known) != {0.0}


def test_a_server_says_the_same(client: Client, predictors: dict[str, Predictor]) -> None:
    """A case of each kind by HTTP: answers to the byte, and errors as 400 with the reason."""
    for model, what, body in dict.fromkeys(ANSWERED[:: len(ANSWERED) // 24]):
        reply, found = client.post(model, body), asked(predictors[model], body)
        assert reply.status == 200, (model, what, reply.body)
        assert reply.body == (found.png or huggingface.encode(found.content)), (model, what)
    for model, what, body, reason in REFUSED[-15:]:
        reply = client.post(model, body, _JSON if model == "watch" else "")
        assert reply.status == 400, (model, what, reply.body)
        assert re.search(reason, json.loads(reply.body)["error"]), (model, what)
    reply = client.post("glosses", as_json("word " * 900))
    assert (reply.status, "902 tokens" in reply.json["error"]) == (400, True)
