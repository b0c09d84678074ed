"""`dlsvc predict`: an answer without a server, through the functions that a server answers with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dlsvc.errors import DataError, UsageError
from dlsvc.store.models import ModelStore
from serving.dialects import huggingface
from serving.predictor import Predictor

# Which routes take an input that isn't a file.
_READERS = {"features": ("classification", "embedding"), "text": ("contrastive", "text-classification")}


def predict_command(
    reference: str,
    *,
    home: Path,
    image: str | Path | None = None,
    audio: str | Path | None = None,
    text: str | Sequence[str] | None = None,
    features: Sequence[Any] | None = None,
    labels: Sequence[str] | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
) -> dict[str, Any]:
    """One of an image file (with labels: which fits), a sound file, a text, a row of features or several, or a seed to
    generate from, with a text where the model makes what is asked for.

    `answer` in what is returned is the JSON that a server sends, to the byte; a picture is written to `out`, by
    default NAME.png here, and returned as its path and sha256.
    """
    predictor = Predictor(ModelStore(home).open(reference))
    given = {"image": image, "audio": audio, "text": text, "features": features, "seed": seed}
    asked = _request(route(predictor), given, labels)
    found = answer(predictor, asked)
    facts = {"model": predictor.bundle.reference, "task": predictor.task_name}
    if found.png is None:
        return {**facts, "answer": found.content}
    path = Path(out) if out is not None else Path(f"{reference.partition('@')[0]}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(found.png)
    return {**facts, "path": str(path), "sha256": hashlib.sha256(found.png).hexdigest()}


def answer(predictor: Predictor, asked: huggingface.Request) -> huggingface.Answer:
    """The answer to a request of the dialect."""
    predictions = predictor.predict(asked.inputs)
    return huggingface.answer(route(predictor), asked, predictions, predictor.bundle.classes)


def route(predictor: Predictor) -> str:
    """What the model answers to in the dialect."""
    return huggingface.route(predictor.task_name, predictor.reads)


def _request(task: str, inputs: Mapping[str, Any], labels: Sequence[str] | None) -> huggingface.Request:
    given = {name: value for name, value in inputs.items() if value is not None}
    if given.keys() == {"seed", "text"}:
        return huggingface.request(task, given["text"], {"seed": given["seed"]})
    if len(given) != 1:
        found = " and ".join(given) or "none"
        raise UsageError(f"give one of an image, a sound, a text, features or a seed, not {found}")
    if labels is not None and "image" not in given:
        raise UsageError("labels are for an image")
    (name, value) = next(iter(given.items()))
    if name in ("image", "audio"):
        return _media_request(task, name, Path(value), labels)
    if name == "seed":
        return huggingface.request(task, "", {"seed": value})
    if task not in _READERS[name]:
        raise UsageError(f"a {task} model reads no {name}")
    return huggingface.request(task, value if isinstance(value, str) else list(value), {})


def _media_request(task: str, kind: str, path: Path, labels: Sequence[str] | None) -> huggingface.Request:
    try:
        body = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}") from error
    if labels is None:
        return huggingface.media(task, body, kind)
    return huggingface.request(task, huggingface.as_text(body), {"candidate_labels": list(labels)})
