"""A published model in batches, for whoever makes data with it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dlsvc.data.preprocess import Preprocess
from dlsvc.data.tensors import to_tensors
from dlsvc.data.text_input import TextInput
from dlsvc.errors import UsageError
from dlsvc.store.bundle import Bundle
from dlsvc.store.models import ModelStore
from dlsvc.tasks.base import Batch, Prediction, dummy_samples

# Batches of texts have this many rows, filled up: kernels round by a batch's size, and what is written of a text must
# not depend on which others were drawn beside it.
_ROWS = 8
# A language model is given this share of a text's words to go on from.
_BEGINNING = 0.5
_WRITERS = ("language-modeling", "translation")


class Published:
    """Inputs are mappings of what the model reads, as a request has them; those of one call are of the same keys."""

    def __init__(self, bundle: Bundle) -> None:
        self.reference = bundle.reference
        self.task_name = str(bundle.config["task"]["name"])
        self.task = bundle.task()
        self.modules = self.task.modules(bundle.model())
        self.preprocess = Preprocess.from_json(bundle.preprocess)

    @torch.inference_mode()
    def predict(
        self, inputs: Sequence[Mapping[str, Any]], seeds: Sequence[int] = (), how: Mapping[str, float] | None = None
    ) -> list[Prediction]:
        """One prediction an input, whose chances are drawn by its seed; `how` has settings of the task's."""
        return self.task.predict(self.modules, self._batch(inputs, seeds, how or {}))

    def written(
        self, inputs: Sequence[Mapping[str, Any]], seeds: Sequence[int] = (), how: Mapping[str, float] | None = None
    ) -> list[str]:
        """What the model writes of each input."""
        return [self.preprocess.read_tokens(row["written"].tolist()) for row in self.predict(inputs, seeds, how)]

    def _batch(self, inputs: Sequence[Mapping[str, Any]], seeds: Sequence[int], how: Mapping[str, float]) -> Batch:
        count = len(inputs)
        batch = {**dummy_samples(count), **to_tensors(self.preprocess.from_request(inputs), torch.device("cpu"))}
        if seeds:
            batch["key"] = torch.tensor(list(seeds))
        for name, value in how.items():
            whole = self.task.settings[name].whole
            batch[name] = torch.full((count,), value, dtype=torch.int64 if whole else torch.float32)
        if self.task.writes and self.preprocess.text is not None and "tokens" not in batch:
            special = self.preprocess.text.tokenizer.special
            batch["ends"] = torch.tensor([[special.bos, special.eos]]).expand(count, -1)
        return batch


class Writers:
    """The published models that texts are written anew by, each loaded when it is first asked for."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.opened: dict[str, Published] = {}

    def __call__(self, model: str, texts: Sequence[str], seeds: Sequence[int], how: Mapping[str, float]) -> list[str]:
        """Translations, or texts gone on from; a text that the model can't read, or has nothing to say to, stays."""
        if model not in self.opened:
            self.opened[model] = _writer(ModelStore(self.home).open(model))
        writer, found = self.opened[model], list(texts)
        goes_on = writer.task_name == "language-modeling"
        prompts = [_beginning(text) if goes_on else text for text in texts]
        readable = [place for place, prompt in enumerate(prompts) if _is_readable(writer, prompt)]
        for first in range(0, len(readable), _ROWS):
            places = readable[first : first + _ROWS]
            rows = places + places[-1:] * (_ROWS - len(places))
            asked = [{"text": prompts[row]} for row in rows], [seeds[row] for row in rows]
            for place, new in zip(places, writer.written(*asked, how), strict=False):
                whole = f"{prompts[place]} {new.strip()}" if goes_on else new
                found[place] = whole.strip() or texts[place]
        return found


@functools.cache
def writers(home: Path) -> Writers:
    """Those of a home, shared by all that ask in this process."""
    return Writers(home)


def _writer(bundle: Bundle) -> Published:
    found = Published(bundle)
    if found.task_name not in _WRITERS or not isinstance(found.preprocess.text, TextInput):
        raise UsageError(
            f"{bundle.reference} is of task {found.task_name}; texts are written by one of {' or '.join(_WRITERS)}"
        )
    return found


def _is_readable(writer: Published, prompt: str) -> bool:
    text = writer.preprocess.text
    assert isinstance(text, TextInput)
    return bool(prompt.strip()) and text.length(prompt) <= text.max_seq_len


def _beginning(text: str) -> str:
    words = text.split()
    return " ".join(words[: max(1, round(len(words) * _BEGINNING))])
