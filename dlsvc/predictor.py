"""Typed inputs to typed predictions: the one call beneath `dlsvc predict`, every HTTP dialect, the demo, and whatever
makes data with a published model.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dlsvc.data.codecs import Undecodable, decode_image
from dlsvc.data.preprocess import Arrays, Preprocess
from dlsvc.data.tensors import to_tensors
from dlsvc.errors import DataError, did_you_mean
from dlsvc.nn.device import CPU
from dlsvc.store.bundle import Bundle
from dlsvc.tasks.base import Prediction

Input = Mapping[str, Any]


@dataclass(frozen=True)
class Piece:
    """A token as it is written: the text that it completes, whether it only ends the text, and of the last one all
    that was written. `separator` joins that to what it goes on from.
    """

    token: int
    text: str
    is_end: bool = False
    whole: str | None = None
    separator: str = ""


# What servers compute at once.
BATCH_SIZE = 8

# How far an image to begin from is changed, where a request doesn't say.
USUAL_STRENGTH = 0.8
_GREY = 127
# What bytes that are no character read as.
_UNFINISHED = "\ufffd"


class Predictor:
    """A published model, ready to answer.

    An input is a mapping with what the model reads: `image` (encoded bytes; of a conversation perhaps a list of
    them) or `audio` (encoded bytes), `features` (numbers), `text`, or `seed` (an integer, for generation) and perhaps
    the `class` (a name) that is to be made. A model that makes what a text says reads `text`, `negative`, `seed`, an
    `image` to begin from, and a `mask` (an image, white where the image is to be made anew). Both kinds of makers read
    their task's settings. Inputs of one call may differ in all that.

    A text longer than the model reads is refused, unless the input has a true `truncate`: it is then cut as in
    training. One that a model writes on from is refused all the same, since its end is what counts.

    Each forward pass has `batch_size` samples, padded: kernels round by the size of a batch, so a sample's answer would
    otherwise depend on who else asked at that moment.
    """

    def __init__(self, bundle: Bundle, batch_size: int = BATCH_SIZE, device: torch.device = CPU) -> None:
        self.bundle, self.batch_size, self.device = bundle, batch_size, device
        self.task = bundle.task()
        self.modules = self.task.modules(bundle.model().to(device))
        self.preprocess = Preprocess.from_json(bundle.preprocess)
        if self.task.keeps_size:
            # Images of their own sizes don't fit together, and eight copies of a large one not into memory.
            self.preprocess, self.batch_size = self.preprocess.with_whole_images(), 1

    @property
    def task_name(self) -> str:
        return str(self.bundle.config["task"]["name"])

    @property
    def reads(self) -> tuple[str, ...]:
        """What an input may hold; the first is what the model is for."""
        return self.preprocess.reads

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        """One prediction an input, in order. Raises DataError naming a bad one."""
        return self.compute(self.prepare(inputs))

    def prepare(self, inputs: Sequence[Input]) -> list[Arrays]:
        """Each input as the row that it will be in a batch. Raises DataError with the index of a bad one."""
        rows: list[Arrays] = [{}] * len(inputs)
        apart = self.task.keeps_size
        for places in _alike([(place if apart else 0, *sorted(item)) for place, item in enumerate(inputs)]):
            found = in_rows(self._arrays([inputs[place] for place in places]))
            for place, row in zip(places, found, strict=True):
                rows[place] = row
        return rows

    def compute(self, rows: Sequence[Arrays]) -> list[Prediction]:
        """One prediction a prepared row, in order, whoever's they are."""
        found: list[Prediction] = [{}] * len(rows)
        for places in _alike([self._kind(row) for row in rows]):
            for first in range(0, len(places), self.batch_size):
                chosen = places[first : first + self.batch_size]
                for place, prediction in zip(chosen, self._pass([rows[place] for place in chosen]), strict=True):
                    found[place] = prediction
        return found

    @torch.inference_mode()
    def stream(self, row: Arrays) -> Iterator[Piece]:
        """What `compute` writes for a prepared row, token by token."""
        assert self.preprocess.text is not None
        tokenizer = self.preprocess.text.tokenizer
        batch = {name: np.concatenate([array] * self.batch_size) for name, array in row.items()}
        written: list[int] = []
        shown = ""
        for token, is_last in self.task.stream(self.modules, to_tensors(batch, self.device)):
            written.append(int(token[0]))
            text = tokenizer.decode(written)
            last = bool(is_last[0])
            # Half of a character waits for its other half.
            whole = text if last or not text.endswith(_UNFINISHED) else shown
            is_end = written[-1] == tokenizer.special.eos
            yield Piece(written[-1], whole[len(shown) :], is_end, text if last else None, tokenizer.separator)
            if last:
                return
            shown = whole

    def _kind(self, row: Arrays) -> Hashable:
        """What rows have in common that can be one batch."""
        same = [name for name, setting in self.task.settings.items() if name in row and not setting.own]
        return tuple(sorted(row)), tuple(row[name].item() for name in same)

    def _arrays(self, inputs: Sequence[Input]) -> Arrays:
        self.preprocess.check_lengths(inputs, may_cut=not self.task.writes)
        if self.task.writes:
            return self._written(inputs)
        if "seed" not in inputs[0] and not self.task.makes_prompts:
            return self.preprocess.from_request(inputs)
        arrays = {"key": np.asarray([int(item.get("seed", 0)) for item in inputs], np.int64)}
        if "class" in inputs[0] and self.task.makes_classes:
            labels = [self._label(place, str(item["class"])) for place, item in enumerate(inputs)]
            arrays["label"] = np.asarray(labels, np.int64)
        return arrays | self._settings(inputs) | (self._prompted(inputs) if self.task.makes_prompts else {})

    def _settings(self, inputs: Sequence[Input]) -> Arrays:
        return {
            name: np.asarray([self._setting(place, name, item[name]) for place, item in enumerate(inputs)])
            for name in sorted(inputs[0].keys() & self.task.settings.keys())
        }

    def _written(self, inputs: Sequence[Input]) -> Arrays:
        """What is to be read before a text is written."""
        text = self.preprocess.text
        key = np.asarray([int(item.get("seed", 0)) for item in inputs], np.int64)
        arrays = {**self.preprocess.from_request(inputs), "key": key, **self._settings(inputs)}
        if text is not None and "tokens" not in arrays:
            arrays["ends"] = np.asarray([[text.tokenizer.special.bos, text.tokenizer.special.eos]] * len(inputs))
        return arrays

    def _readable(self, prediction: Prediction) -> Prediction:
        """With what its tokens say."""
        if self.preprocess.text is None:
            return prediction
        tokenizer, found = self.preprocess.text.tokenizer, dict(prediction)
        if "written" in prediction:
            found["text"] = tokenizer.decode(prediction["written"].tolist())
            found["separator"] = tokenizer.separator
        if "guesses" in prediction:
            found["guess_texts"] = [tokenizer.token(number) for number in prediction["guesses"].tolist()]
            found["mask"] = tokenizer.token(tokenizer.special.mask)
        return found

    def _setting(self, place: int, name: str, value: float) -> np.generic:
        asked = self.task.settings[name]
        if not asked.least <= value <= asked.most or (asked.whole and value != int(value)):
            kind = "a whole number" if asked.whole else "a number"
            raise DataError(f"input {place}: {name} must be {kind} from {asked.least:g} to {asked.most:g}, not {value}")
        return np.int64(value) if asked.whole else np.float32(value)

    def _prompted(self, inputs: Sequence[Input]) -> Arrays:
        """What is to be made: texts, and images to begin from."""
        assert self.preprocess.text is not None
        arrays = {"tokens": self.preprocess.text.encode([str(item.get("text", "")) for item in inputs])["tokens"]}
        if "negative" in inputs[0]:
            arrays["negative_tokens"] = self.preprocess.text.encode([str(item["negative"]) for item in inputs])[
                "tokens"
            ]
        if "image" in inputs[0]:
            arrays["image"] = self.preprocess.from_request([{"image": item["image"]} for item in inputs])["image"]
            usual = 1.0 if "mask" in inputs[0] else USUAL_STRENGTH
            arrays["strength"] = np.asarray(
                [self._setting(place, "strength", item.get("strength", usual)) for place, item in enumerate(inputs)]
            )
        if "mask" in inputs[0]:
            arrays["mask"] = np.stack([self._mask(place, item["mask"]) for place, item in enumerate(inputs)])
        return arrays

    def _mask(self, place: int, mask: bytes) -> np.ndarray:
        """(size, size) bool, True where it is white."""
        assert self.preprocess.image is not None
        try:
            return decode_image(mask, 1, self.preprocess.image.size)[..., 0] > _GREY
        except Undecodable as error:
            raise DataError(f"input {place}, mask: {error}") from error

    def _label(self, place: int, name: str) -> int:
        known = self.bundle.classes
        if name not in known:
            raise DataError(f"input {place}: no class is called {name!r}{did_you_mean(name, known)}")
        return known.index(name)

    def _pass(self, rows: Sequence[Arrays]) -> list[Prediction]:
        padded = [*rows, *[rows[-1]] * (self.batch_size - len(rows))]
        arrays = {name: np.concatenate([row[name] for row in padded]) for name in rows[0]}
        with torch.inference_mode():
            found = self.task.predict(self.modules, to_tensors(arrays, self.device))[: len(rows)]
        return [self._readable(prediction) | _counted(row) for prediction, row in zip(found, rows, strict=True)]


def in_rows(batch: Arrays) -> list[Arrays]:
    """A batch's samples, each a batch of one."""
    count = len(next(iter(batch.values())))
    return [{name: array[row : row + 1] for name, array in batch.items()} for row in range(count)]


def _counted(row: Arrays) -> Prediction:
    """`num_tokens`: how many tokens of a text were read, those that begin and end it included."""
    return {"num_tokens": int(row["attention_mask"].sum())} if "attention_mask" in row else {}


def _alike(kinds: Sequence[Hashable]) -> Iterator[list[int]]:
    """The places of each kind."""
    places: dict[Hashable, list[int]] = {}
    for place, kind in enumerate(kinds):
        places.setdefault(kind, []).append(place)
    yield from places.values()
