"""Texts that published models write anew, for augmentations that ask them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from dlsvc.data.text_input import TextInput
from dlsvc.errors import UsageError
from dlsvc.predictor import Predictor
from dlsvc.store.bundle import Bundle
from dlsvc.store.models import ModelStore

# A language model is given this share of a text's words to go on from.
_BEGINNING = 0.5
_WRITERS = ("language-modeling", "translation")


class Writers:
    """The published models that texts are written anew by, each loaded when it is first asked for."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.opened: dict[str, Predictor] = {}

    def __call__(self, model: str, texts: Sequence[str], seeds: Sequence[int], how: Mapping[str, float]) -> list[str]:
        """Translations, or texts gone on from; a text that the model can't read, or has nothing to say to, stays."""
        if model not in self.opened:
            self.opened[model] = _writer(ModelStore(self.home).open(model))
        writer, found = self.opened[model], list(texts)
        goes_on = writer.task_name == "language-modeling"
        prompts = [_beginning(text) if goes_on else text for text in texts]
        readable = [place for place, prompt in enumerate(prompts) if _is_readable(writer, prompt)]
        asked = [{"text": prompts[place], "seed": seeds[place], **how} for place in readable]
        for place, row in zip(readable, writer.predict(asked) if asked else [], strict=True):
            whole = f"{prompts[place]} {row['text'].strip()}" if goes_on else row["text"]
            found[place] = whole.strip() or texts[place]
        return found


@functools.cache
def writers(home: Path) -> Writers:
    """Those of a home, shared by all that ask in this process."""
    return Writers(home)


def _writer(bundle: Bundle) -> Predictor:
    found = Predictor(bundle)
    if found.task_name not in _WRITERS or not isinstance(found.preprocess.text, TextInput):
        raise UsageError(
            f"{bundle.reference} is of task {found.task_name}; texts are written by one of {' or '.join(_WRITERS)}"
        )
    return found


def _is_readable(writer: Predictor, prompt: str) -> bool:
    text = writer.preprocess.text
    assert isinstance(text, TextInput)
    return bool(prompt.strip()) and text.length(prompt) <= text.max_seq_len


def _beginning(text: str) -> str:
    words = text.split()
    return " ".join(words[: max(1, round(len(words) * _BEGINNING))])
