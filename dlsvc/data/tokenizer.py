"""Text to token ids and back; one interface, plain JSON state, ids 0 to 3 the same in all: pad, bos, eos, unk."""

from __future__ import annotations

import collections
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from dlsvc.errors import DataError, UsageError, did_you_mean

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
PAD_ID, BOS_ID, EOS_ID, UNK_ID = range(len(SPECIAL))

_WORD = re.compile(r"[^\W_]+")


class Tokenizer(Protocol):
    @property
    def vocab_size(self) -> int: ...

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without bos and eos."""

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids up to the first eos; pad and bos are left out."""

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class WordTokenizer:
    """Lower-case words; the vocabulary is ordered by frequency, then alphabetically."""

    words: tuple[str, ...]
    name: ClassVar[str] = "word"
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ids = {word: len(SPECIAL) + place for place, word in enumerate(self.words)}
        object.__setattr__(self, "_ids", ids)

    @classmethod
    def fit(cls, texts: Iterable[str], vocab_size: int) -> WordTokenizer:
        counts = collections.Counter(word for text in texts for word in split_words(text))
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(tuple(ranked[: max(0, vocab_size - len(SPECIAL))]))

    @property
    def vocab_size(self) -> int:
        return len(SPECIAL) + len(self.words)

    def encode(self, text: str) -> list[int]:
        return [self._ids.get(word, UNK_ID) for word in split_words(text)]

    def decode(self, ids: Iterable[int]) -> str:
        known = [number for number in _until_eos(ids) if number not in (PAD_ID, BOS_ID)]
        return " ".join(
            self.words[number - len(SPECIAL)] if number >= len(SPECIAL) else SPECIAL[number] for number in known
        )

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "words": list(self.words)}


@dataclass(frozen=True)
class ByteTokenizer:
    """The bytes of a text in UTF-8, after the four special ids; nothing is unknown."""

    name: ClassVar[str] = "byte"

    @property
    def vocab_size(self) -> int:
        return len(SPECIAL) + 256

    def encode(self, text: str) -> list[int]:
        return [len(SPECIAL) + byte for byte in text.encode()]

    def decode(self, ids: Iterable[int]) -> str:
        values = [number - len(SPECIAL) for number in _until_eos(ids) if number >= len(SPECIAL)]
        return bytes(values).decode(errors="replace")

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name}


def split_words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFC", text).lower())


def _until_eos(ids: Iterable[int]) -> list[int]:
    numbers = [int(number) for number in ids]
    return numbers[: numbers.index(EOS_ID)] if EOS_ID in numbers else numbers


def encode_batch(
    tokenizer: Tokenizer, texts: Sequence[str], max_seq_len: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Tokens (B, T) as bos, text, eos, then padding, and the mask (B, T), True where a token counts.

    A text too long loses its end, never its eos.
    """
    tokens = np.full((len(texts), max_seq_len), PAD_ID, np.int64)
    lengths = np.empty(len(texts), np.int64)
    for place, text in enumerate(texts):
        ids = [BOS_ID, *tokenizer.encode(text)[: max_seq_len - 2], EOS_ID]
        tokens[place, : len(ids)] = ids
        lengths[place] = len(ids)
    return tokens, np.arange(max_seq_len) < lengths[:, None]


def build_tokenizer(name: str, texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A tokenizer by its name, fitted on the texts where it has a vocabulary."""
    if name == WordTokenizer.name:
        return WordTokenizer.fit(texts, vocab_size)
    if name == ByteTokenizer.name:
        return ByteTokenizer()
    known = (WordTokenizer.name, ByteTokenizer.name)
    raise UsageError(f"no tokenizer is called {name!r}{did_you_mean(name, known)}")


def tokenizer_from_json(state: Mapping[str, Any]) -> Tokenizer:
    if state.get("name") == WordTokenizer.name:
        return WordTokenizer(tuple(state["words"]))
    if state.get("name") == ByteTokenizer.name:
        return ByteTokenizer()
    raise DataError(f"no tokenizer is called {state.get('name')!r}; was this made by a newer version?")
