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

from dlsvc.data.subword import KINDS, fit_subwords, from_state
from dlsvc.data.vocabulary import BOS_ID, EOS_ID, PAD_ID, SPECIAL, UNK_ID, Special
from dlsvc.errors import DataError, UsageError, did_you_mean

__all__ = ["BOS_ID", "EOS_ID", "PAD_ID", "SPECIAL", "UNK_ID", "Tokenizer", "WordTokenizer"]

_WORD = re.compile(r"[^\W_]+")


class Tokenizer(Protocol):
    @property
    def vocab_size(self) -> int: ...

    @property
    def special(self) -> Special: ...

    @property
    def separator(self) -> str:
        """What joins two decoded texts: nothing, where tokens hold the spaces."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without bos and eos."""

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids up to the first eos; pad and bos are left out."""

    def token(self, number: int) -> str:
        """A token as it reads alone."""

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class WordTokenizer:
    """Lower-case words; the vocabulary is ordered by frequency, then alphabetically."""

    words: tuple[str, ...]
    name: ClassVar[str] = "word"
    separator: ClassVar[str] = " "
    special: ClassVar[Special] = Special()
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ids = {word: len(SPECIAL) + place for place, word in enumerate(self.words)}
        object.__setattr__(self, "_ids", ids)

    @classmethod
    def split(cls, text: str) -> list[str]:
        return split_words(text)

    @classmethod
    def fit(cls, texts: Iterable[str], vocab_size: int) -> WordTokenizer:
        counts = collections.Counter(word for text in texts for word in cls.split(text))
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(tuple(ranked[: max(0, vocab_size - len(SPECIAL))]))

    @property
    def vocab_size(self) -> int:
        return len(SPECIAL) + len(self.words)

    def encode(self, text: str) -> list[int]:
        return [self._ids.get(word, UNK_ID) for word in self.split(text)]

    def decode(self, ids: Iterable[int]) -> str:
        return self.separator.join(map(self.token, self.special.until_end(ids)))

    def token(self, number: int) -> str:
        place = number - len(SPECIAL)
        if place < 0:
            return SPECIAL[number]
        # A model may have room for more tokens than there are words.
        return self.words[place] if place < len(self.words) else SPECIAL[UNK_ID]

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "words": list(self.words)}


@dataclass(frozen=True)
class CharacterTokenizer(WordTokenizer):
    """Characters in NFC, spaces and case as they are."""

    name: ClassVar[str] = "character"
    separator: ClassVar[str] = ""

    @classmethod
    def split(cls, text: str) -> list[str]:
        return list(unicodedata.normalize("NFC", text))


@dataclass(frozen=True)
class ByteTokenizer:
    """The bytes of a text in UTF-8, after the four special ids; nothing is unknown."""

    name: ClassVar[str] = "byte"
    separator: ClassVar[str] = ""
    special: ClassVar[Special] = Special()

    @property
    def vocab_size(self) -> int:
        return len(SPECIAL) + 256

    def encode(self, text: str) -> list[int]:
        return [len(SPECIAL) + byte for byte in text.encode()]

    def decode(self, ids: Iterable[int]) -> str:
        values = [number - len(SPECIAL) for number in self.special.until_end(ids) if number >= len(SPECIAL)]
        return bytes(values).decode(errors="replace")

    def token(self, number: int) -> str:
        return self.decode([number]) if number >= len(SPECIAL) else SPECIAL[number]

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name}


def split_words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFC", text).lower())


def encode_batch(
    tokenizer: Tokenizer, texts: Sequence[str], max_seq_len: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Tokens (B, T) as bos, text, eos, then padding, and the mask (B, T), True where a token counts.

    A text too long loses its end, never its eos.
    """
    special = tokenizer.special
    tokens = np.full((len(texts), max_seq_len), special.pad, np.int64)
    lengths = np.empty(len(texts), np.int64)
    for place, text in enumerate(texts):
        ids = [special.bos, *tokenizer.encode(text)[: max_seq_len - 2], special.eos]
        tokens[place, : len(ids)] = ids
        lengths[place] = len(ids)
    return tokens, np.arange(max_seq_len) < lengths[:, None]


def build_tokenizer(name: str, texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A tokenizer by its name, fitted on the texts where it has a vocabulary."""
    if name in _VOCABULARIES:
        return _VOCABULARIES[name].fit(texts, vocab_size)
    if name == ByteTokenizer.name:
        return ByteTokenizer()
    if name in KINDS:
        return fit_subwords(name, texts, vocab_size)
    known = (*_VOCABULARIES, ByteTokenizer.name, *KINDS)
    raise UsageError(f"no tokenizer is called {name!r}{did_you_mean(name, known)}")


def tokenizer_from_json(state: Mapping[str, Any]) -> Tokenizer:
    name = str(state.get("name"))
    if name in _VOCABULARIES:
        return _VOCABULARIES[name](tuple(state["words"]))
    if name == ByteTokenizer.name:
        return ByteTokenizer()
    if name == "subword":
        return from_state(state)
    raise DataError(f"no tokenizer is called {name!r}; was this made by a newer version?")


_VOCABULARIES: Mapping[str, type[WordTokenizer]] = {kind.name: kind for kind in (WordTokenizer, CharacterTokenizer)}
