"""`dlsvc predict`: an answer without a server, through the functions that a server answers with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dlsvc.errors import DataError, UsageError
from dlsvc.predictor import Predictor
from dlsvc.spec.document import scalar
from dlsvc.store.models import ModelStore
from dlsvc.tasks.base import Prediction
from serving.dialects import huggingface
from serving.predictor import served

# The routes that make a vector of a text and read nothing else.
_ENCODERS = ("masked-language-modeling", "word-embedding", "co-occurrence", "text-embedding")
# The routes that answer a text with a text.
_WRITERS = ("language-modeling", "translation")
# Which routes take an input that isn't a file.
_READERS = {
    "features": ("classification", "embedding"),
    "series": ("series-classification", "series-embedding"),
    "text": ("contrastive", "bootstrapped", "text-classification", *_ENCODERS, *_WRITERS),
}


def predict_command(
    reference: str,
    *,
    home: Path,
    image: str | Path | Sequence[str | Path] | None = None,
    audio: str | Path | None = None,
    video: str | Path | None = None,
    series: str | Path | None = None,
    text: str | Sequence[str] | None = None,
    features: Sequence[Any] | None = None,
    labels: Sequence[str] | None = None,
    seed: int | None = None,
    parameters: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    device: str = "cpu",
    tell: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """One of an image file (with labels: which fits; a list of them for a conversation), a sound file, a film, a JSON
    file of a series, a text, a row of features or several, or a seed to generate from, with a text where the model
    makes what is asked for, and an image that it then begins from. `parameters` are the dialect's own, such as
    guidance_scale; with `stream`, each piece of the text goes to `tell` as it is written.

    `answer` in what is returned is the JSON that a server sends, to the byte; a picture is written to `out`, by
    default NAME.png here, and returned as its path and sha256.
    """
    predictor = served(ModelStore(home).open(reference), device)
    given = {
        "image": image,
        "audio": audio,
        "video": video,
        "series": series,
        "text": text,
        "features": features,
        "seed": seed,
    }
    asked = _request(route(predictor), given, labels, parameters or {})
    found = answer(predictor, asked) if tell is None or not asked.streams else _told(predictor, asked, tell)
    facts = {"model": predictor.bundle.reference, "task": predictor.task_name}
    if found.png is None:
        return {**facts, "answer": found.content}
    path = Path(out) if out is not None else Path(f"{reference.partition('@')[0]}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(found.png)
    return {**facts, "path": str(path), "sha256": hashlib.sha256(found.png).hexdigest()}


def read_parameters(given: Sequence[str]) -> dict[str, Any]:
    """`NAME=VALUE` as JSON has it: numbers as such, and `@PATH` as the file in base64."""
    found: dict[str, Any] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise UsageError(f"--parameter {one}: write NAME=VALUE, as in top_k=3")
        found[name] = huggingface.as_text(_contents(Path(value[1:]))) if value[:1] == "@" else scalar(value)
    return found


def answer(predictor: Predictor, asked: huggingface.Request) -> huggingface.Answer:
    """The answer to a request of the dialect."""
    predictions = predictor.predict(asked.inputs)
    return huggingface.answer(route(predictor), asked, predictions, predictor.bundle.classes)


def _told(predictor: Predictor, asked: huggingface.Request, tell: Callable[[str], None]) -> huggingface.Answer:
    """The answer to a request, once each piece of it was told."""
    (row,) = predictor.prepare(asked.inputs)
    written: Prediction = {}
    for piece in predictor.stream(row):
        tell(piece.text)
        written = {"text": piece.whole, "separator": piece.separator}
    return huggingface.answer(route(predictor), asked, [written], predictor.bundle.classes)


def route(predictor: Predictor) -> str:
    """What the model answers to in the dialect."""
    return huggingface.route(predictor.task_name, predictor.reads)


def _request(
    task: str, inputs: Mapping[str, Any], labels: Sequence[str] | None, parameters: Mapping[str, Any]
) -> huggingface.Request:
    given = {name: value for name, value in inputs.items() if value is not None}
    _check(task, given, labels)
    together = _together(task, given, parameters)
    if together is not None:
        return together
    if given.keys() == {"seed", "text"}:
        return huggingface.request(task, given["text"], {**parameters, "seed": given["seed"]})
    if len(given) != 1:
        found = " and ".join(given) or "none"
        raise UsageError(f"give one of an image, a sound, a film, a series, a text, features or a seed, not {found}")
    (name, value) = next(iter(given.items()))
    if name in ("image", "audio", "video"):
        return _media_request(task, name, Path(value), labels, parameters)
    if name == "seed":
        return huggingface.request(task, "", {**parameters, "seed": value})
    if task not in _READERS[name]:
        raise UsageError(f"a {task} model reads no {name}")
    if name == "series":
        return huggingface.request(task, _series(Path(value)), parameters)
    return huggingface.request(task, value if isinstance(value, str) else list(value), parameters)


def _check(task: str, given: Mapping[str, Any], labels: Sequence[str] | None) -> None:
    """Raises UsageError for what could only be ignored."""
    if isinstance(given.get("image"), list):
        if task != "conversation":
            raise UsageError(f"a {task} model reads one image, not {len(given['image'])}")
        if "text" not in given:
            raise UsageError("several images belong to a conversation: give what is asked about them with --text")
    if labels is not None and given.keys() != {"image"}:
        raise UsageError(f"labels are for an image by itself, not for {' and '.join(given) or 'nothing'}")
    if labels is not None and task != "contrastive":
        raise UsageError(f"a {task} model takes no labels: a contrastive one chooses from them")


def _together(task: str, given: Mapping[str, Any], parameters: Mapping[str, Any]) -> huggingface.Request | None:
    """The request of a task that reads an image and a text as one input, when they are given so."""
    if not given.keys() <= {"image", "text", "seed"}:
        return None
    if task == "latent-denoising":
        return _made(task, given, parameters)
    if task == "conversation" and "text" in given:
        return _asked(task, given, parameters)
    if task == "bootstrapped" and given.keys() == {"image", "text"}:
        body = huggingface.as_text(_contents(Path(given["image"])))
        return huggingface.request(task, {"image": body, "text": given["text"]}, parameters)
    return None


def _made(task: str, given: Mapping[str, Any], parameters: Mapping[str, Any]) -> huggingface.Request:
    """What is to be made of a text, perhaps beginning from an image."""
    asked = {**parameters, "seed": given.get("seed", 0)}
    if "image" not in given:
        return huggingface.request(task, given.get("text", ""), asked)
    body = huggingface.as_text(_contents(Path(given["image"])))
    return huggingface.request(task, body, {**asked, "prompt": given.get("text", "")})


def _asked(task: str, given: Mapping[str, Any], parameters: Mapping[str, Any]) -> huggingface.Request:
    """A question, perhaps about an image."""
    image = {}
    if "image" in given:
        files = given["image"] if isinstance(given["image"], list) else [given["image"]]
        images = [huggingface.as_text(_contents(Path(file))) for file in files]
        image = {"image": images[0] if len(images) == 1 else images}
    seed = {"seed": given["seed"]} if "seed" in given else {}
    return huggingface.request(task, {"question": given["text"], **image}, {**parameters, **seed})


def _media_request(
    task: str, kind: str, path: Path, labels: Sequence[str] | None, parameters: Mapping[str, Any]
) -> huggingface.Request:
    body = _contents(path)
    alone = huggingface.media(task, body, kind)
    if labels is not None:
        parameters = {**parameters, "candidate_labels": list(labels)}
    if not parameters:
        return alone
    if task == "contrastive" and "candidate_labels" not in parameters:
        found = ", ".join(parameters)
        raise UsageError(f"an image whose vector is wanted comes without parameters, not with {found}; leave them out")
    text = huggingface.as_text(body)
    return huggingface.request(task, {"image": text} if task == "bootstrapped" else text, parameters)


def _series(path: Path) -> Any:
    try:
        return json.loads(_contents(path))
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}") from error


def _contents(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}") from error
