"""The OpenAI dialect: what `openai.OpenAI(base_url="http://host/v1", api_key=...)` sends and reads, as pure functions.

`POST /v1/embeddings` gives vectors of texts, by any model that makes them, as `dlsvc predict` does: `parse` turns a
body into typed inputs, `vector_key` says where a model's predictions hold the vector, `answer` writes the vectors.

    field            value
    model            a served model's name, as /v1/models lists it
    input            a text, or a list of 1 to 2,048 of them; none may be empty. Tokens by number are refused: each
                     model has its own
    encoding_format  "float" (the default), or "base64" of little-endian float32, which the client asks for when it is
                     not told otherwise; both are the same numbers
    dimensions       refused: a model's vectors have one length
    user             anybody's name, which changes nothing

A text that is longer than the model reads is cut, or refused where the model also writes; `usage` counts the tokens
that were read, those that begin and end a text included. Errors of this route are
`{"error": {"message", "type", "param", "code"}}`.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlsvc.errors import DataError, DlsvcError, NotFound, UsageError, did_you_mean
from dlsvc.predictor import Input
from dlsvc.tasks.base import Prediction
from serving.dialects.values import kind_of, read_text

PREFIX = "/v1/"
EMBEDDINGS = f"{PREFIX}embeddings"
EXAMPLE = 'JSON, such as {"model": "minilm", "input": "a text"}'
MAX_INPUTS = 2048

_FIELDS = ("model", "input", "encoding_format", "dimensions", "user")
_FORMATS = ("float", "base64")
# Which tasks make a vector of a text, and what their predictions call it.
_VECTORS: Mapping[str, str] = {
    "bootstrapped": "embedding",
    "co-occurrence": "embedding",
    "contrastive": "text_embed",
    "embedding": "embedding",
    "masked-language-modeling": "embedding",
    "word-embedding": "embedding",
}


class WrongField(UsageError):
    """A request's field is wrong: which, for the error's `param`."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True)
class Request:
    """Whose vectors of which texts, and how they are written."""

    model: str
    inputs: list[Input]
    is_base64: bool = False


def parse(body: bytes) -> Request:
    """The request of a POST body. Raises UsageError saying what would be right."""
    given = {name: value for name, value in _document(body).items() if value is not None}
    for name in given:
        if name not in _FIELDS:
            raise WrongField(name, f"embeddings take no field {name!r}{did_you_mean(name, _FIELDS)}")
    for name in ("model", "input"):
        if name not in given:
            raise WrongField(name, f'"{name}" is missing; send {EXAMPLE}')
    if "dimensions" in given:
        raise WrongField(
            "dimensions", "\"dimensions\" can't be chosen: a model's vectors have one length; leave it out"
        )
    format_ = given.get("encoding_format", "float")
    if format_ not in _FORMATS:
        raise WrongField("encoding_format", f'"encoding_format" must be "float" or "base64", not {_said(format_)}')
    model = given["model"]
    if not isinstance(model, str):
        raise WrongField("model", f'"model" must be a text, not {kind_of(model)}')
    return Request(model, [{"text": text, "truncate": True} for text in _texts(given["input"])], format_ == "base64")


def vector_key(name: str, task: str, reads: Sequence[str]) -> str:
    """What the vector of a text is called in the predictions of a model. Raises WrongField for one that makes none."""
    if task not in _VECTORS:
        raise WrongField(
            "model", f"{name} is a {task} model and makes no vectors of texts; these tasks do: {', '.join(_VECTORS)}"
        )
    if "text" not in reads:
        raise WrongField("model", f"{name} makes vectors of {' or '.join(reads)}, not of texts; POST to /models/{name}")
    return _VECTORS[task]


def answer(asked: Request, predictions: Sequence[Prediction], key: str) -> dict[str, Any]:
    """The vectors of a request's texts from their predictions."""
    rows = [
        {"object": "embedding", "index": place, "embedding": _written(prediction[key], asked.is_base64)}
        for place, prediction in enumerate(predictions)
    ]
    count = sum(prediction["num_tokens"] for prediction in predictions)
    usage = {"prompt_tokens": count, "total_tokens": count}
    return {"object": "list", "data": rows, "model": asked.model, "usage": usage}


def error_body(message: str, status: int, error: Exception) -> dict[str, Any]:
    """An error as the client's typed exceptions read it."""
    param, code = None, None
    if isinstance(error, WrongField):
        param = error.param
    elif isinstance(error, NotFound):
        param, code = "model", "model_not_found"
    elif isinstance(error, DataError):
        param = "input"
    elif isinstance(error, DlsvcError) and status == 503:
        code = "unavailable"
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the body is not JSON: {error}; send {EXAMPLE}") from error
    if not isinstance(document, dict):
        raise UsageError(f"the body must be an object, not {kind_of(document)}; send {EXAMPLE}")
    return document


def _texts(given: Any) -> list[str]:
    several = given if isinstance(given, list) else [given]
    if not 1 <= len(several) <= MAX_INPUTS:
        raise WrongField("input", f'"input" takes 1 to {MAX_INPUTS} texts, this one has {len(several)}')
    return [_text(value, place) for place, value in enumerate(several)]


def _text(value: Any, place: int) -> str:
    if isinstance(value, list) or (isinstance(value, int) and not isinstance(value, bool)):
        raise WrongField("input", f"input {place} is tokens by number; each model has its own, so send the text itself")
    try:
        text = read_text(value, f"input {place}")
    except UsageError as error:
        raise WrongField("input", str(error)) from error
    if not text:
        raise WrongField("input", f"input {place} is empty; each must have at least one character")
    return text


def _written(vector: Any, is_base64: bool) -> str | list[float]:
    numbers = np.asarray(vector, "<f4")
    if not math.isfinite(numbers.astype(np.float64).sum()):
        raise DataError("the model's answer is not finite; are the texts far from what it was trained on?")
    if is_base64:
        return base64.b64encode(numbers.tobytes()).decode("ascii")
    found: list[float] = numbers.tolist()
    return found


def _said(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) else kind_of(value)
