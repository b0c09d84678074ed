"""The Hugging Face task dialect: what `huggingface_hub.InferenceClient(model=URL)` sends and reads, as pure functions.

A request is an image's or a sound's raw bytes, or JSON `{"inputs": ..., "parameters": {...}}` with them in base64.
`route` says which of these a model answers to; `parse` turns a body into typed inputs; `answer` turns their predictions
into JSON or a PNG. Nothing here knows HTTP, so that `dlsvc predict` gives the same answers.

    route                inputs                           parameters                            answer
    classification       an image, or rows of features    top_k                                 [{label, score}]
    audio-classification a sound                          top_k                                 [{label, score}]
    text-classification  texts                            top_k                                 [[{label, score}]]
    masked-language-     texts, or of each one with a     truncate                              embeddings;
    modeling             mask its likeliest words                                               [{score, sequence}]
    word-embedding       texts (also for co-occurrence)   truncate                              embeddings
    contrastive          an image                         candidate_labels, hypothesis_template [{label, score}]
                         texts, or an image as raw bytes                                        embeddings
    embedding            an image, or rows of features    normalize                             embeddings
    text-embedding       texts; likewise audio-, video-   normalize, truncate                   embeddings
                         and series-embedding
    reconstruction       an image; or none                none; or seed                         PNG
    adversarial          none                             seed                                  PNG
    super-resolution     an image (also for adversarial-super-resolution)                       PNG
    denoising            a class, or nothing              seed, num_inference_steps,            PNG
                                                          guidance_scale
    latent-denoising     a prompt; or an image to begin   those, negative_prompt; with an       PNG
                         from                             image prompt, strength, mask_image
    bootstrapped         an image; or texts; or {image,   num_beams, length_penalty             [{generated_text}];
                         text}                                                                  embeddings; [{score}]
    captioning           an image                         num_beams, length_penalty             [{generated_text}]
    conversation         {image, question}, or turns;     those of text generation              [{answer}]
                         image may be a list
    segmentation         an image                         threshold, subtask: semantic          [{label, score, mask}]

`inputs` of a request with a seed is a prompt to the client's methods. Models that learnt classes read it as the name of
one, and latent-denoising as the text of what to make; to the others it may be anything.

A text longer than the model reads is an error. Where nothing is written after it, `truncate: true` has its beginning
read, as in training. Of a text without known words the vector is that of nothing: zero, of word-embedding.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dlsvc.data.codecs import encode_png
from dlsvc.errors import DataError, UsageError, did_you_mean
from dlsvc.predictor import Input, Piece
from dlsvc.tasks.base import Prediction
from serving.dialects.reading import (
    DEFAULT_TOP_K,
    Reader,
    embedded,
    label_templates,
    read_bootstrapped,
    read_captioning,
    read_class,
    read_classification,
    read_continuation,
    read_contrastive,
    read_films,
    read_prompt,
    read_question,
    read_reconstruction,
    read_seed,
    read_segmentation,
    read_sentences,
    read_series,
    read_sounds,
    read_texts,
    read_threshold,
    read_translation,
)
from serving.dialects.values import read_integer

MAX_INPUTS = 1000
EXAMPLE = 'an image\'s bytes, or a JSON object with "inputs"'


@dataclass(frozen=True)
class Request:
    """A request to a task: its typed inputs, and what shapes the answer. `single`: the answer is of one, not a list."""

    inputs: list[Input]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    single: bool = True

    @property
    def streams(self) -> bool:
        """Whether the answer is to come token by token."""
        return bool(self.parameters.get("stream", False))


@dataclass(frozen=True)
class Answer:
    """What goes back: content for JSON, or a PNG."""

    content: Any = None
    png: bytes | None = None


def event(asked: Request, piece: Piece) -> bytes:
    """A token as a server-sent event, as text-generation-inference has them; the last one brings the whole text."""
    whole = piece.whole
    if whole is not None and asked.parameters.get("return_full_text", False):
        whole = _gone_on(asked.inputs[0]["text"], whole, piece.separator)
    # Nobody asked for probabilities, and the field must be there.
    token = {"id": piece.token, "text": piece.text, "logprob": None, "special": piece.is_end}
    return _event({"token": token, "generated_text": whole, "details": None})


def broken_off(error: Exception) -> bytes:
    """That a stream ends without its end, and why."""
    return _event({"error": str(error), "error_type": "generation"})


def _gone_on(text: str, written: str, separator: str) -> str:
    """A text and what was written after it, apart as the model's tokens are."""
    is_apart = not text or not written or text[-1].isspace()
    return text + ("" if is_apart else separator) + written


def _event(content: Any) -> bytes:
    return b"data:" + encode(content) + b"\n\n"


def encode(content: Any) -> bytes:
    """JSON as it is sent; ASCII, so that no text that a client sends can fail to be echoed."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def route(task: str, reads: Sequence[str]) -> str:
    """What a model answers to here, from its task and what it reads, the first of which counts."""
    has_kinds = task in ("classification", "embedding") and reads
    return f"{reads[0]}-{task}" if has_kinds and reads[0] in ("audio", "text", "video", "series") else task


def parse(task: str, body: bytes, content_type: str = "") -> Request:
    """The request of a POST body. Raises UsageError saying what would be right."""
    document = _document(body, content_type)
    if document is None:
        return media(task, body)
    extra = {name: value for name, value in document.items() if name not in ("inputs", "parameters")}
    return request(task, document["inputs"], extra | (document.get("parameters") or {}))


def media(task: str, body: bytes, kind: str = "") -> Request:
    """The request that a file's bytes alone are; `kind` is what it is meant to be, where that is known."""
    dialect = _dialect(task)
    if dialect.medium is None or kind not in ("", dialect.medium):
        raise UsageError(f"{task} reads no {_PLURALS[kind or 'image']}; send {dialect.example}")
    return Request([{dialect.medium: body}])


def as_text(body: bytes) -> str:
    """An image or a sound as `inputs` of JSON has it."""
    return base64.b64encode(body).decode("ascii")


def request(task: str, inputs: Any, parameters: Mapping[str, Any]) -> Request:
    """The request of JSON's `inputs` and `parameters`."""
    dialect = _dialect(task)
    given = {name: value for name, value in parameters.items() if value is not None}
    _check_parameters(task, dialect, given)
    found, single = dialect.read(inputs, given)
    if not 1 <= len(found) <= MAX_INPUTS:
        raise UsageError(f"a request takes 1 to {MAX_INPUTS} inputs, this one has {len(found)}")
    return Request(found, given, single)


def answer(task: str, asked: Request, predictions: Sequence[Prediction], classes: Sequence[str]) -> Answer:
    """The answer to a request from the predictions of its inputs."""
    return _dialect(task).write(asked, predictions, classes)


def _document(body: bytes, content_type: str) -> dict[str, Any] | None:
    """The JSON object of a body, or None when it is raw media."""
    if "json" not in content_type and (
        content_type.startswith(("image/", "audio/", "video/")) or body.lstrip()[:1] != b"{"
    ):
        return None
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the body is not JSON: {error}") from error
    if not isinstance(document, dict) or "inputs" not in document:
        raise UsageError("the body must be an image's, a sound's or a film's bytes, or a JSON object with \"inputs\"")
    if not isinstance(document.get("parameters"), dict | None):
        raise UsageError('"parameters" must be an object')
    return document


def _check_parameters(task: str, dialect: _Dialect, parameters: Mapping[str, Any]) -> None:
    """What we don't know or can't do is refused: ignored, it would give another answer than was asked for."""
    for name, value in parameters.items():
        if name in dialect.parameters:
            continue
        only, tasks = _ONLY.get(name, (None, ()))
        if task not in tasks:
            raise UsageError(f"{task} takes no parameter {name!r}{did_you_mean(name, dialect.parameters)}")
        if value != only:
            raise UsageError(f'"{name}" can only be {json.dumps(only)} here')


def _write_masked(asked: Request, predictions: Sequence[Prediction], classes: Sequence[str]) -> Answer:
    """The likeliest words for the first mask of a text that has one; the vectors of texts without."""
    if not any("guesses" in row for row in predictions):
        return _write_embedding(asked, predictions, classes)
    rows = [_guesses(str(item["text"]), row) for item, row in zip(asked.inputs, predictions, strict=True)]
    return Answer(rows[0] if asked.single else rows)


def _guesses(text: str, row: Prediction) -> list[dict[str, Any]]:
    if "guesses" not in row:
        raise UsageError("some of the texts have a mask and some have none; ask for words and for vectors apart")
    found = zip(row["guesses"].tolist(), row["guess_texts"], _finite(row["guess_scores"]).tolist(), strict=True)
    return [
        {"score": score, "token": number, "token_str": word, "sequence": text.replace(row["mask"], word, 1)}
        for number, word, score in found
    ]


def _write_translation(asked: Request, predictions: Sequence[Prediction], classes: Sequence[str]) -> Answer:
    return Answer([{"translation_text": row["text"]} for row in predictions])


def _write_bootstrapped(asked: Request, predictions: Sequence[Prediction], classes: Sequence[str]) -> Answer:
    """Captions, vectors, or how likely an image and a text belong together."""
    if "embedding" in predictions[0]:
        return _write_embedding(asked, predictions, classes)
    if "match" in predictions[0]:
        return Answer([{"label": "match", "score": row["match"]} for row in predictions])
    return Answer([{"generated_text": row["text"]} for row in predictions])


def _write_answer(asked: Request, predictions: Sequence[Prediction], classes: Sequence[str]) -> Answer:
    return Answer([{"answer": row["text"].strip()} for row in predictions])


def _write_continuation(asked: Request, predictions: Sequence[Prediction], classes: Sequence[str]) -> Answer:
    """The text after each, or with `return_full_text` what it goes on from before it."""
    texts = [row["text"] for row in predictions]
    if asked.parameters.get("return_full_text", False):
        rows = zip(asked.inputs, predictions, strict=True)
        texts = [_gone_on(item["text"], row["text"], row["separator"]) for item, row in rows]
    return Answer([{"generated_text": text} for text in texts])


def _write_classification(asked: Request, predictions: Sequence[Prediction], classes: Sequence[str]) -> Answer:
    top = read_integer(asked.parameters, "top_k", DEFAULT_TOP_K, 1)
    rows = [_ranked(prediction["scores"], classes)[:top] for prediction in predictions]
    return Answer(rows[0] if asked.single else rows)


def _write_segmentation(asked: Request, predictions: Sequence[Prediction], classes: Sequence[str]) -> Answer:
    """A segment for every class that is there, in the classes' order: its pixels white in a PNG of the model's own
    size, and their mean probability for its score.
    """
    (prediction,) = predictions
    labels, scores, least = prediction["mask"], _finite(prediction["score"]), read_threshold(asked.parameters)
    found = []
    for label in np.unique(labels).tolist():
        inside = labels == label
        score = float(scores[inside].mean())
        if score >= least:
            mask = as_text(encode_png(inside.astype(np.uint8) * 255))
            found.append({"label": classes[label] if classes else str(label), "score": score, "mask": mask})
    return Answer(found)


def _write_image(asked: Request, predictions: Sequence[Prediction], classes: Sequence[str]) -> Answer:
    (prediction,) = predictions
    image = _finite(prediction["image" if "image" in prediction else "reconstruction"])  # (H, W, C) in [0, 1]
    return Answer(png=encode_png((image.clip(0, 1) * 255).round().astype(np.uint8)))


def _write_embedding(asked: Request, predictions: Sequence[Prediction], classes: Sequence[str]) -> Answer:
    found = [_finite(row["embedding"]) for row in predictions]
    if asked.parameters.get("normalize"):
        # A vector of zeros has no direction, and stays as it is.
        found = [vector / (np.linalg.norm(vector) or 1.0) for vector in found]
    vectors = [vector.tolist() for vector in found]
    return Answer(vectors[0] if asked.single else vectors)


def _write_contrastive(asked: Request, predictions: Sequence[Prediction], classes: Sequence[str]) -> Answer:
    labels = asked.parameters.get("candidate_labels")
    if labels is None:
        vectors = [_finite(row["text_embed" if "text_embed" in row else "image_embed"]).tolist() for row in predictions]
        return Answer(vectors[0] if asked.single else vectors)
    image = _finite(predictions[0]["image_embed"])
    texts = np.stack([_finite(row["text_embed"]) for row in predictions[1:]])
    count = len(label_templates(asked.parameters))
    if count > 1:
        # Of several templates the mean direction (Radford et al. 2021, section 3.1.4).
        texts = texts.reshape(len(labels), count, -1).mean(axis=1)
        texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    # A sum and not a matrix product, whose rounding depends on where in memory its factors lie.
    logits = float(predictions[0]["logit_scale"]) * (texts * image).sum(axis=1)
    weights = np.exp(logits - logits.max())
    return Answer(_ranked(weights / weights.sum(), labels))


def _ranked(scores: Any, labels: Sequence[str]) -> list[dict[str, Any]]:
    """`[{label, score}]`, best first; ties keep the labels' order."""
    values = _finite(scores)
    names = labels or [str(place) for place in range(len(values))]
    return [{"label": names[place], "score": float(values[place])} for place in np.argsort(-values, kind="stable")]


def _finite(values: Any) -> np.ndarray:
    found = np.asarray(values, np.float64)
    if not math.isfinite(found.sum()):
        raise DataError("the model's answer is not finite; are the inputs far from what it was trained on?")
    return found


@dataclass(frozen=True)
class _Dialect:
    """A task in this dialect."""

    read: Reader
    write: Callable[[Request, Sequence[Prediction], Sequence[str]], Answer]
    parameters: tuple[str, ...]
    # What a body that isn't JSON is.
    medium: str | None = "image"
    example: str = "an image's bytes"


_PLURALS = {"image": "images", "audio": "sounds", "video": "films"}

_CLASSIFIERS = tuple(f"{kind}classification" for kind in ("", "audio-", "text-", "video-", "series-"))
# The client's parameters that have one value here, and the tasks that have them: the value may be named.
_ONLY: Mapping[str, tuple[Any, tuple[str, ...]]] = {
    "function_to_apply": ("softmax", _CLASSIFIERS),
    "normalize": (True, ("masked-language-modeling", "contrastive")),
    "subtask": ("semantic", ("segmentation",)),
    "stream": (False, ("conversation", "bootstrapped", "captioning", "translation")),
}

_CONTINUING = ("stream", "seed", "max_new_tokens", "temperature", "top_k", "top_p", "do_sample", "return_full_text")
_ASKING = ("question", "image", "seed", "max_new_tokens", "temperature", "top_k", "top_p", "do_sample")
_QUESTION = 'JSON, such as {"inputs": {"image": "base64", "question": "what is it?"}}'
_JSON_TEXT = 'JSON, such as {"inputs": "a text"}'
_MAKING = ("seed", "num_inference_steps", "guidance_scale")
_GENERATION = _Dialect(
    read_seed, _write_image, ("seed", "prompt"), None, 'JSON, such as {"inputs": "", "parameters": {"seed": 0}}'
)
_SERIES = 'JSON, such as {"inputs": [[0.1, 0.2], [0.3, 0.4]]}'
_WORDS = _Dialect(embedded(read_sentences), _write_embedding, ("truncate", "normalize"), None, _JSON_TEXT)

_DIALECTS: Mapping[str, _Dialect] = {
    "classification": _Dialect(read_classification, _write_classification, ("top_k",)),
    "audio-classification": _Dialect(read_sounds, _write_classification, ("top_k",), "audio", "a sound's bytes"),
    "text-classification": _Dialect(read_texts, _write_classification, ("top_k", "truncate"), None, _JSON_TEXT),
    "video-classification": _Dialect(read_films, _write_classification, ("top_k",), "video", "a film's bytes"),
    "series-classification": _Dialect(read_series, _write_classification, ("top_k",), None, _SERIES),
    "language-modeling": _Dialect(read_continuation, _write_continuation, _CONTINUING, None, _JSON_TEXT),
    "conversation": _Dialect(read_question, _write_answer, _ASKING, None, _QUESTION),
    "bootstrapped": _Dialect(read_bootstrapped, _write_bootstrapped, ("num_beams", "length_penalty")),
    "captioning": _Dialect(read_captioning, _write_continuation, ("num_beams", "length_penalty")),
    "masked-language-modeling": _Dialect(read_sentences, _write_masked, ("truncate",), None, _JSON_TEXT),
    "word-embedding": _WORDS,
    "co-occurrence": _WORDS,
    "translation": _Dialect(
        read_translation, _write_translation, ("num_beams", "length_penalty", "src_lang", "tgt_lang"), None, _JSON_TEXT
    ),
    "embedding": _Dialect(embedded(read_classification), _write_embedding, ("normalize",)),
    "audio-embedding": _Dialect(embedded(read_sounds), _write_embedding, ("normalize",), "audio", "a sound's bytes"),
    "text-embedding": _WORDS,
    "video-embedding": _Dialect(embedded(read_films), _write_embedding, ("normalize",), "video", "a film's bytes"),
    "series-embedding": _Dialect(embedded(read_series), _write_embedding, ("normalize",), None, _SERIES),
    "reconstruction": _Dialect(read_reconstruction, _write_image, ("seed", "prompt")),
    "autoencoding": _Dialect(read_reconstruction, _write_image, ("prompt",)),
    "adversarial": _GENERATION,
    "adversarial-super-resolution": _Dialect(read_reconstruction, _write_image, ("prompt",)),
    "super-resolution": _Dialect(read_reconstruction, _write_image, ("prompt",)),
    "denoising": _Dialect(
        read_class, _write_image, ("prompt", *_MAKING), None, 'JSON, such as {"inputs": "", "parameters": {"seed": 0}}'
    ),
    "latent-denoising": _Dialect(
        read_prompt, _write_image, ("prompt", "negative_prompt", "strength", "mask_image", "truncate", *_MAKING)
    ),
    "segmentation": _Dialect(read_segmentation, _write_segmentation, ("threshold",)),
    "contrastive": _Dialect(
        read_contrastive, _write_contrastive, ("candidate_labels", "hypothesis_template", "truncate")
    ),
}


def _dialect(task: str) -> _Dialect:
    if task not in _DIALECTS:
        raise UsageError(f"task {task!r} has no route in this dialect")
    return _DIALECTS[task]
