"""From raw rows to a batch, in one way for training, evaluation and serving; its state goes into the bundle as JSON.

Shapes: B samples, images (B, H, W, C) uint8 until `finish` makes them (B, C, H, W) float32, and (B, N, ...) where a
sample has several; F features; T tokens; sounds (B, N) float32 until `finish` makes them spectrograms (B, 1, M, T)
float32; films (B, T, H, W, C) uint8 until `finish` makes them (B, C, T, H, W) float32; series (B, T, C) float32 until
`finish` makes them (B, C, T); masks (B, H, W) uint8 class numbers until `finish` makes them int64.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsvc.data.audio_input import AudioInput
from dlsvc.data.chat_input import ChatInput
from dlsvc.data.codecs import Pixels, Undecodable, decode_mask, together
from dlsvc.data.encoded import COLUMN
from dlsvc.data.image_input import ImageInput, WholeImage
from dlsvc.data.series_input import SeriesInput
from dlsvc.data.text_input import TextInput
from dlsvc.data.tokenizer import Tokenizer, tokenizer_from_json
from dlsvc.data.video_input import VideoInput
from dlsvc.errors import DataError

Arrays = dict[str, NDArray[Any]]
Samples = dict[str, Any]

# A request's texts: what is to be read, and what a picture is not to be of.
_READ_WHOLE = ("text", "negative")
_CURE = "; with truncate its beginning is read"
# What a request may hold.
INPUTS = ("image", "video", "features", "series", "audio", "text")


@dataclass(frozen=True)
class BadRow:
    """A row that can't be decoded: its place in the batch, where it comes from, and why."""

    position: int
    uri: str
    reason: str


@dataclass(frozen=True)
class FeatureInput:
    """Standardised with the training split's mean and standard deviation."""

    names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def decode(self, values: Any) -> NDArray[np.float32]:
        """(F,) float32 of a request's list."""
        numbers = np.asarray(values, np.float32)
        if numbers.shape != (len(self.names),):
            raise DataError(f"{numbers.size} numbers, not {len(self.names)}: {', '.join(self.names)}")
        if not np.isfinite(numbers).all():
            raise DataError("a number that isn't finite")
        return numbers

    def standardise(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        scaled: NDArray[np.float64] = (features - np.asarray(self.mean)) / np.asarray(self.std)
        return scaled.astype(np.float32)


@dataclass(frozen=True)
class Preprocess:
    """The data's half of a model: what it reads, and how that becomes a batch.

    `classes` are those of the labels that come out; with `positive` there are two, and the rest is 0. A `prompt` makes
    the texts of data that has classes only. `target` is the text that a model learns to write, in the tokens of `text`.
    """

    image: ImageInput | None = None
    features: FeatureInput | None = None
    text: TextInput | ChatInput | None = None
    target: TextInput | None = None
    audio: AudioInput | None = None
    video: VideoInput | None = None
    series: SeriesInput | None = None
    classes: tuple[str, ...] = ()
    positive: int | None = None
    prompt: str | None = None
    source: str = field(default="", compare=False)

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(name for name in INPUTS if getattr(self, name) is not None)

    def decode(self, rows: Mapping[str, Any]) -> tuple[Samples, list[BadRow]]:
        """Rows of a table as samples, and those that can't be decoded, whose places hold zeros. Augmentations work on
        samples: images uint8, texts as lists of str, sounds as float32. Conversations are tokens already.
        """
        arrays: Samples = {}
        bad: list[BadRow] = []
        if self.image is not None:
            arrays, bad = self._seen(rows)
        if self.features is not None:
            arrays["features"] = _column(rows, "features")
        if self.text is not None:
            said, lost = self._said(self.text, rows)
            arrays, bad = arrays | said, [*bad, *lost]
        if self.target is not None:
            arrays["target_text"] = self.target.of_rows(rows)
        if self.audio is not None:
            arrays["audio"] = np.zeros((len(_column(rows, "audio")), self.audio.num_samples), np.float32)
            bad = [*bad, *_decode_into(arrays["audio"], rows["audio"], rows.get("uri"), self.audio.decode)]
        if self.video is not None:
            films = _column(rows, "video")
            arrays["video"] = np.zeros((len(films), *self.video.shape), np.uint8)
            bad = [*bad, *_decode_into(arrays["video"], films, rows.get("uri"), self.video.decode)]
        if self.series is not None:
            series = _column(rows, "series")
            arrays["series"] = np.zeros((len(series), *self.series.shape), np.float32)
            bad = [*bad, *_decode_into(arrays["series"], series, rows.get("uri"), self.series.decode)]
        if "label" in rows:
            arrays["label"] = self._labels(rows["label"])
        return arrays, bad

    def read_tokens(self, ids: Sequence[int]) -> str:
        """What ids of tokens say; their numbers where there are no texts."""
        return self.text.tokenizer.decode(ids) if self.text is not None else " ".join(map(str, ids))

    def prompts(self, labels: NDArray[np.int64]) -> list[str]:
        """The text of each label of the data."""
        return [prompt_of(self.prompt or "{label}", self.classes[label]) for label in self._labels(labels).tolist()]

    def decode_one(self, image: bytes | Pixels) -> Pixels:
        """A sample's image as pixels, uint8. Raises Undecodable with the reason."""
        if self.image is None:
            raise DataError("this model reads no images")
        return self.image.decode(image)

    def finish(self, samples: Mapping[str, Any]) -> Arrays:
        """Samples, perhaps augmented, as a batch: images normalised, features standardised, texts as tokens, sounds as
        spectrograms, masks as int64, the rest as it is.
        """
        batch = dict(samples)
        # What augmentations made comes normalised, since they do it in the same pass.
        if self.image is not None and "image" in batch and batch["image"].dtype == np.uint8:
            batch["image"] = self.image.normalise(batch["image"])
        if "mask" in batch:
            batch["mask"] = batch["mask"].astype(np.int64)
        if self.text is not None and "text" in batch:
            batch |= self.text.encode(batch.pop("text"))
        if self.target is not None and "target_text" in batch:
            batch |= self.target.encode(batch.pop("target_text"), "target_")
        if self.audio is not None and "audio" in batch:
            batch["spectrogram"] = self.audio.spectrograms(batch.pop("audio"))
        if self.features is not None and "features" in batch:
            batch["features"] = self.features.standardise(batch["features"])
        if self.video is not None and "video" in batch:
            batch["video"] = self.video.normalise(batch["video"])
        if self.series is not None and "series" in batch:
            batch["series"] = self.series.standardise(batch["series"])
        return batch

    def from_request(self, inputs: Sequence[Mapping[str, Any]]) -> Arrays:
        """A batch from inputs with `image`, `video` or `audio` (encoded bytes), `features` or `series` (numbers) or
        `text`, all of the same keys.

        Raises DataError with the index of the input that is wrong.
        """
        if not inputs:
            raise DataError("no input")
        names = self._asked(inputs)
        arrays: Samples = {}
        if "image" in names and self.image is not None:
            arrays["image"] = np.stack(_each(inputs, "image", self._request_image))
        if "features" in names and self.features is not None:
            arrays["features"] = np.stack(_each(inputs, "features", self.features.decode))
        if "text" in names and self.text is not None:
            arrays["text"] = _each(inputs, "text", self.text.request, [num_images(item) for item in inputs])
        if "audio" in names and self.audio is not None:
            arrays["audio"] = np.stack(_each(inputs, "audio", self._request_sound))
        if "video" in names and self.video is not None:
            arrays["video"] = np.stack(_each(inputs, "video", self._request_film))
        if "series" in names and self.series is not None:
            arrays["series"] = np.stack(_each(inputs, "series", self.series.decode))
        return self.finish(arrays)

    def with_whole_images(self) -> Preprocess:
        """The same for images of any size, of which a request then has one: they don't fit into one batch."""
        assert self.image is not None
        return dataclasses.replace(self, image=WholeImage(**vars(self.image)))

    def check_lengths(self, inputs: Sequence[Mapping[str, Any]], *, may_cut: bool = True) -> None:
        """Raises DataError for a text that would lose its end, unless its input asks for that by a true `truncate`, and
        it may be cut.
        """
        for place, item in enumerate(inputs):
            if self.text is None or (may_cut and item.get("truncate", False)):
                continue
            for name in _READ_WHOLE:
                if name in item:
                    self._check_length(item, name, f"input {place}, {name}", _CURE if may_cut else "")

    def _check_length(self, item: Mapping[str, Any], name: str, where: str, cure: str) -> None:
        assert self.text is not None
        try:
            count = self.text.length(self.text.request(item[name], num_images(item)))
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
        if count > self.text.max_seq_len:
            most = self.text.max_seq_len
            raise DataError(f"{where}: {count} tokens, its ends included, and the model reads at most {most}{cure}")

    def _asked(self, inputs: Sequence[Mapping[str, Any]]) -> list[str]:
        names = [name for name in self.reads if name in inputs[0]]
        for index, item in enumerate(inputs):
            found = [name for name in self.reads if name in item]
            if not found:
                given = ", ".join(sorted(item)) or "nothing"
                raise DataError(f"input {index}: holds {given}; this model reads {' or '.join(self.reads)}")
            if found != names:
                raise DataError(f"input {index}: holds {', '.join(found)}, and input 0 {', '.join(names)}")
        return names

    def _request_image(self, value: Any) -> Pixels:
        if isinstance(value, np.ndarray):
            return self.decode_one(value)
        files = value if isinstance(value, list) else [value]
        for file in files:
            if not isinstance(file, bytes | bytearray):
                raise DataError(f"an image must be an encoded file's bytes, not {type(file).__name__}")
        return self.decode_one(together([bytes(file) for file in files]))

    def _request_sound(self, value: Any) -> NDArray[np.float32]:
        assert self.audio is not None
        if not isinstance(value, bytes | bytearray):
            raise DataError(f"a sound must be an encoded file's bytes, not {type(value).__name__}")
        return self.audio.decode(bytes(value))

    def _request_film(self, value: Any) -> Pixels:
        assert self.video is not None
        if not isinstance(value, bytes | bytearray):
            raise DataError(f"a film must be an encoded file's bytes, not {type(value).__name__}")
        return self.video.decode(bytes(value))

    def _seen(self, rows: Mapping[str, Any]) -> tuple[Samples, list[BadRow]]:
        """Images, or what they were encoded to beforehand, and their masks."""
        if COLUMN in rows:
            return {COLUMN: rows[COLUMN]}, _unencoded(rows[COLUMN], rows.get("uri"))
        found, bad = self._images(_column(rows, "image"), rows.get("uri"))
        if "mask" not in rows:
            return {"image": found}, bad
        masks, unmasked = self._masks(rows["mask"], rows.get("uri"))
        return {"image": found, "mask": masks}, [*bad, *unmasked]

    def _images(self, images: Any, uris: Sequence[str] | None) -> tuple[Pixels, list[BadRow]]:
        assert self.image is not None
        if isinstance(images, np.ndarray):
            whole = images[..., None] if images.ndim == 3 else images
            if whole.shape[1:] == self.image.shape:
                return whole, []
        found = np.zeros((len(images), *self.image.shape), np.uint8)
        return found, _decode_into(found, images, uris, self.image.decode)

    def _said(self, text: TextInput | ChatInput, rows: Mapping[str, Any]) -> tuple[Samples, list[BadRow]]:
        if isinstance(text, ChatInput):
            tokens, reasons = text.decode(text.of_rows(rows))
            return tokens, _bad_rows(reasons, rows.get("uri"))
        return {"text": self.prompts(_column(rows, "label")) if self.prompt else text.of_rows(rows)}, []

    def _masks(self, masks: Any, uris: Sequence[str] | None) -> tuple[Pixels, list[BadRow]]:
        assert self.image is not None
        found = np.zeros((len(masks), self.image.size, self.image.size), np.uint8)
        return found, _decode_into(found, masks, uris, self._mask)

    def _mask(self, mask: bytes | Pixels) -> Pixels:
        assert self.image is not None
        found = decode_mask(mask, self.image.size)
        if self.classes and found.max() >= len(self.classes):
            raise Undecodable(f"the mask holds class {found.max()}, and there are {len(self.classes)}, from 0 on")
        return found

    def _labels(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        return labels if self.positive is None else (labels == self.positive).astype(np.int64)

    def to_json(self) -> dict[str, Any]:
        text = self.text and {"tokenizer": self.text.tokenizer.to_json(), **self.text.to_json()}
        return {
            "image": self.image and _plain(self.image),
            "features": self.features and _plain(self.features),
            "text": text,
            "target": self.target and self.target.to_json(),
            "video": self.video and _plain(self.video),
            "series": self.series and _plain(self.series),
            "audio": self.audio and self.audio.to_json(),
            "classes": list(self.classes),
            "positive": self.positive,
            "prompt": self.prompt,
            "source": self.source,
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Preprocess:
        """Raises DataError when the state isn't one that `to_json` wrote."""
        try:
            image, features, text = state["image"], state["features"], state["text"]
            # Bundles of earlier versions lack what came later.
            video, series, target = (state.get(name) for name in ("video", "series", "target"))
            tokenizer = tokenizer_from_json(text["tokenizer"]) if text else None
            return cls(
                image=ImageInput(**_tupled(image)) if image else None,
                features=FeatureInput(*(tuple(features[name]) for name in ("names", "mean", "std")))
                if features
                else None,
                text=_text_input(text, tokenizer) if tokenizer else None,
                target=TextInput(tokenizer, **target) if tokenizer and target else None,
                video=VideoInput(**_tupled(video)) if video else None,
                series=SeriesInput(**_tupled(series)) if series else None,
                audio=AudioInput.from_json(state["audio"]) if state.get("audio") else None,
                classes=tuple(state["classes"]),
                positive=state["positive"],
                prompt=state.get("prompt"),
                source=state.get("source", ""),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"not the state of a preprocess: {error!r}") from error


def _text_input(state: Mapping[str, Any], tokenizer: Tokenizer) -> TextInput | ChatInput:
    length, column = state["max_seq_len"], state.get("column", "text")
    return (
        ChatInput(tokenizer, length, column, **state["chat"])
        if "chat" in state
        else TextInput(tokenizer, length, column)
    )


def _tupled(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in state.items()}


def _plain(part: ImageInput | FeatureInput | VideoInput | SeriesInput) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(part).items()
    }


def _decode_into(
    found: NDArray[Any], column: Any, uris: Sequence[str] | None, decode: Callable[[Any], NDArray[Any]]
) -> list[BadRow]:
    """Fill an array with a column's decoded values; what can't be decoded keeps its zeros."""
    reasons: dict[int, str] = {}
    for position, value in enumerate(column):
        try:
            found[position] = decode(value)
        except Undecodable as error:
            reasons[position] = str(error)
    return _bad_rows(reasons, uris)


def _bad_rows(reasons: Mapping[int, str], uris: Sequence[str] | None) -> list[BadRow]:
    return [BadRow(position, uris[position] if uris else "", reason) for position, reason in reasons.items()]


def _unencoded(encoded: NDArray[np.float32], uris: Sequence[str] | None) -> list[BadRow]:
    """Rows whose images could not be decoded when they were encoded."""
    lost = np.flatnonzero(np.isnan(encoded).reshape(len(encoded), -1).any(1)).tolist()
    return _bad_rows(dict.fromkeys(lost, "its image could not be decoded"), uris)


def _column(rows: Mapping[str, Any], name: str) -> Any:
    if name not in rows:
        raise DataError(f"the data has no {name} column; it has {', '.join(sorted(rows))}")
    return rows[name]


def _each(
    inputs: Sequence[Mapping[str, Any]], name: str, read: Callable[..., Any], *others: Sequence[Any]
) -> list[Any]:
    """What each input's value is read as, beside what `others` have for it."""
    found = []
    for index, item in enumerate(inputs):
        try:
            found.append(read(item[name], *(column[index] for column in others)))
        except (DataError, TypeError, ValueError) as error:
            raise DataError(f"input {index}, {name}: {error}") from error
    return found


def num_images(item: Mapping[str, Any]) -> int:
    """How many images a request's input shows: none, one, or a list of them."""
    image = item.get("image", [])
    return len(image) if isinstance(image, list) else 1


def prompt_of(prompt: str, name: str) -> str:
    """The text of a class."""
    return prompt.replace("{label}", name)
