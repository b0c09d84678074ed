"""The Hugging Face task dialect: what `huggingface_hub.InferenceClient(model=URL)` sends and understands, as pure functions.

A request is raw bytes, or JSON `{"inputs": ..., "parameters": {...}}` with images in base64. `plan` turns it into typed inputs; `answer` turns their
predictions into JSON or PNG bytes. Nothing here knows HTTP, so that `dlsvc predict` gives the same answers.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from dlsvc.errors import UsageError
from dlsvc.tasks.base import Prediction
from serving.predictor import Input

MAX_INPUTS = 1000
DEFAULT_TEMPLATE = "This is a photo of {}."


@dataclass(frozen=True)
class Request:
    """A request to a task: its typed inputs, and what shapes the answer."""

    inputs: list[Input]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    single: bool = True


@dataclass(frozen=True)
class Answer:
    """JSON-able content, or a PNG."""

    content: Any
    png: bytes | None = None


def parse(task: str, body: bytes, content_type: str) -> Request:
    """The request of a POST body. Raises UsageError saying what would be right."""
    document = _document(body, content_type)
    if document is None:
        return Request([{"image": body}])
    parameters = {name: value for name, value in document.items() if name not in ("inputs", "parameters")} | dict(document.get("parameters") or {})
    return request(task, document.get("inputs"), parameters)


def request(task: str, inputs: Any, parameters: Mapping[str, Any]) -> Request:
    """A request from `inputs` and `parameters` of JSON."""
    if task not in _READERS:
        raise UsageError(f"task {task!r} has no route in this dialect")
    found, single = _READERS[task](inputs, parameters)
    if not 1 <= len(found) <= MAX_INPUTS:
        raise UsageError(f"a request takes 1 to {MAX_INPUTS} inputs, this one has {len(found)}")
    return Request(found, parameters, single)


def answer(task: str, asked: Request, predictions: Sequence[Prediction], classes: Sequence[str]) -> Answer:
    """The answer to a request from the predictions of its inputs."""
    return _WRITERS[task](asked, predictions, classes)


def _document(body: bytes, content_type: str) -> dict[str, Any] | None:
    """The JSON object of a body, or None when it is raw media."""
    if "json" not in content_type and not body.lstrip()[:1] == b"{":
        return None
    try:
        document = json.loads(body)
    except ValueError as error:
        raise UsageError(f"the body is not JSON: {error}") from error
    if not isinstance(document, dict) or "inputs" not in document:
        raise UsageError('the body must be a JSON object with "inputs"')
    if not isinstance(document.get("parameters") or {}, dict):
        raise UsageError('"parameters" must be an object')
    return document


def _image(value: Any) -> Input:
    if not isinstance(value, str):
        raise UsageError(f'"inputs" must be an image in base64, not {type(value).__name__}')
    try:
        return {"image": base64.b64decode(value.removeprefix("data:").partition("base64,")[2] or value, validate=True)}
    except (binascii.Error, ValueError) as error:
        raise UsageError(f'"inputs" is not valid base64: {error}') from error


def _read_classification(inputs: Any, parameters: Mapping[str, Any]) -> tuple[list[Input], bool]:
    """An image, or rows of features."""
    if isinstance(inputs, str):
        return [_image(inputs)], True
    if not isinstance(inputs, list) or not inputs:
        raise UsageError('"inputs" must be an image in base64, a list of numbers, or a list of such lists')
    single = not isinstance(inputs[0], list)
    return [{"features": row} for row in ([inputs] if single else inputs)], single


def _read_image(inputs: Any, parameters: Mapping[str, Any]) -> tuple[list[Input], bool]:
    """An image to reconstruct, or a seed to generate from."""
    if "seed" in parameters:
        return _read_seed(inputs, parameters)
    return [_image(inputs)], True


def _read_seed(inputs: Any, parameters: Mapping[str, Any]) -> tuple[list[Input], bool]:
    seed = parameters.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise UsageError(f'"seed" must be an integer from 0 to 2^63 - 1, not {seed!r}')
    return [{"seed": seed}], True


def _read_contrastive(inputs: Any, parameters: Mapping[str, Any]) -> tuple[list[Input], bool]:
    """Texts to embed, or an image with labels to choose from."""
    labels = parameters.get("candidate_labels")
    if labels is None:
        texts = [inputs] if isinstance(inputs, str) else inputs
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise UsageError('"inputs" must be a text or a list of texts; an image takes "candidate_labels", or raw bytes for its embedding')
        return [{"text": text} for text in texts], isinstance(inputs, str)
    if not isinstance(labels, list) or len(labels) < 2 or not all(isinstance(label, str) for label in labels):
        raise UsageError('"candidate_labels" must be a list of at least two texts')
    template = parameters.get("hypothesis_template", DEFAULT_TEMPLATE)
    if not isinstance(template, str) or "{}" not in template:
        raise UsageError('"hypothesis_template" must be a text with {} in it')
    return [_image(inputs), *({"text": template.replace("{}", label)} for label in labels)], True


def _write_classification(asked: Request, predictions: Sequence[Prediction], classes: Sequence[str]) -> Answer:
    top = asked.parameters.get("top_k", 5)
    if not isinstance(top, int) or isinstance(top, bool) or top < 1:
        raise UsageError(f'"top_k" must be a positive integer, not {top!r}')
    rows = [_labelled(prediction["scores"], classes)[:top] for prediction in predictions]
    return Answer(rows[0] if asked.single else rows)


def _labelled(scores: Any, classes: Sequence[str]) -> list[dict[str, Any]]:
    """`[{label, score}]`, best first; ties keep the classes' order."""
    values = np.asarray(scores, np.float64)
    names = list(classes) or [str(place) for place in range(len(values))]
    return [{"label": names[place], "score": float(values[place])} for place in np.argsort(-values, kind="stable")]


def _write_image(asked: Request, predictions: Sequence[Prediction], classes: Sequence[str]) -> Answer:
    image = next(predictions[0][name] for name in ("image", "reconstruction") if name in predictions[0])
    return Answer(None, png(np.asarray(image)))


def png(image: np.ndarray) -> bytes:
    """(H, W, C) in [0, 1] as PNG bytes."""
    pixels = (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(out, "PNG")
    return out.getvalue()


def _write_contrastive(asked: Request, predictions: Sequence[Prediction], classes: Sequence[str]) -> Answer:
    labels = asked.parameters.get("candidate_labels")
    if labels is None:
        vectors = [_embedding(prediction) for prediction in predictions]
        return Answer(vectors[0] if asked.single else vectors)
    image = np.asarray(predictions[0]["image_embed"], np.float64)
    texts = np.asarray([prediction["text_embed"] for prediction in predictions[1:]], np.float64)
    logits = float(predictions[0]["logit_scale"]) * texts @ image
    weights = np.exp(logits - logits.max())
    return Answer(_labelled(weights / weights.sum(), labels))


def _embedding(prediction: Prediction) -> list[float]:
    name = "text_embed" if "text_embed" in prediction else "image_embed"
    return [float(value) for value in prediction[name]]


_READERS: dict[str, Callable[[Any, Mapping[str, Any]], tuple[list[Input], bool]]] = {
    "classification": _read_classification,
    "reconstruction": _read_image,
    "adversarial": _read_seed,
    "contrastive": _read_contrastive,
}
_WRITERS: dict[str, Callable[[Request, Sequence[Prediction], Sequence[str]], Answer]] = {
    "classification": _write_classification,
    "reconstruction": _write_image,
    "adversarial": _write_image,
    "contrastive": _write_contrastive,
}
