"""Tokens smaller than words, by Hugging Face's `tokenizers`: byte pairs as in GPT-2, pieces of words as in BERT."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dlsvc.data.vocabulary import EOS, PAD, SPECIAL, Special
from dlsvc.errors import DataError

MASK = "<mask>"
# What the field calls the file of a vocabulary.
TOKENIZER = "tokenizer.json"
KINDS = ("bpe", "wordpiece")
# What a word begins with while pairs are merged, and what a piece within a word begins with in BERT's vocabularies.
_MARK, _WITHIN = "\u2581", "##"

# What the field calls them: ours, then BERT's, CLIP's and GPT-2's, Llama's.
NAMES = {
    "pad": (PAD, "[PAD]", "<|endoftext|>", "</s>"),
    "bos": ("<bos>", "[CLS]", "<|startoftext|>", "<s>", "<|endoftext|>"),
    "eos": (EOS, "[SEP]", "<|endoftext|>", "</s>"),
    "unk": ("<unk>", "[UNK]", "<|endoftext|>"),
    "mask": (MASK, "[MASK]"),
}


@dataclass(frozen=True)
class SubwordTokenizer:
    """A tokenizer of the library by its JSON, and which of its ids are special."""

    state: str

    @functools.cached_property
    def _library(self) -> Any:
        tokenizer = imported().Tokenizer.from_str(self.state)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    @functools.cached_property
    def special(self) -> Special:
        """Raises DataError when the vocabulary has no token that could end a text."""
        ids = {role: self._first(names) for role, names in NAMES.items()}
        if ids["eos"] is None:
            raise DataError(f"the vocabulary has no token that ends a text: none of {', '.join(NAMES['eos'])}")
        end = ids["eos"]
        filled = {role: end if value is None else value for role, value in ids.items() if role != "mask"}
        return Special(**filled, mask=filled["unk"] if ids["mask"] is None else ids["mask"])

    @functools.cached_property
    def separator(self) -> str:
        """Pieces of words know nothing of the space before them."""
        return " " if isinstance(self._library.model, imported().models.WordPiece) else ""

    @property
    def vocab_size(self) -> int:
        return int(self._library.get_vocab_size())

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._library.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        return self._text(self.special.until_end(ids), skip_special_tokens=True)

    def token(self, number: int) -> str:
        """A token as it reads alone."""
        return self._text([number], skip_special_tokens=False).strip()

    def to_json(self) -> dict[str, Any]:
        return {"name": "subword", "state": json.loads(self.state)}

    def _text(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        text: str = self._library.decode(ids, skip_special_tokens=skip_special_tokens)
        # CLIP's mark of a word's end, which the library leaves where it is.
        mark = getattr(self._library.model, "end_of_word_suffix", None)
        return text.replace(mark, " ").strip() if mark else text

    def _first(self, names: tuple[str, ...]) -> int | None:
        found = (self._library.token_to_id(name) for name in names)
        return next((number for number in found if number is not None), None)


def fit_subwords(kind: str, texts: Iterable[str], vocab_size: int) -> SubwordTokenizer:
    """Byte pairs (Sennrich, Haddow and Birch 2016; over bytes, Radford et al. 2019) or pieces of lower-case words
    (Schuster and Nakajima 2012), at most `vocab_size` with the special ones.
    """
    fit = _fit_byte_pairs if kind == "bpe" else _fit_word_pieces
    return SubwordTokenizer(fit(imported(), texts, vocab_size).to_str())


def _fit_byte_pairs(library: Any, texts: Iterable[str], vocab_size: int) -> Any:
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    alphabet = sorted(library.pre_tokenizers.ByteLevel.alphabet())
    _train(library, tokenizer, texts, vocab_size, special=[*SPECIAL, MASK], alphabet=alphabet)
    return tokenizer


def _fit_word_pieces(library: Any, texts: Iterable[str], vocab_size: int) -> Any:
    """Pairs are merged in words that begin with a mark, and what has the mark begins words. The library's own trainer
    numbers the pieces within words in the order of a hash table, which no two processes share.
    """
    pairs = library.Tokenizer(library.models.BPE())
    pairs.normalizer = library.normalizers.BertNormalizer(lowercase=True)
    before, mark = library.pre_tokenizers, library.pre_tokenizers.Metaspace(_MARK, prepend_scheme="always", split=False)
    pairs.pre_tokenizer = before.Sequence([before.BertPreTokenizer(), mark])
    _train(library, pairs, texts, vocab_size, special=[], alphabet=[])
    learned = sorted(pairs.get_vocab().items(), key=lambda item: item[1])
    letters = [piece for piece, _ in learned if len(piece) == 1 and piece != _MARK]
    pieces = [*SPECIAL, MASK, *letters, *(_WITHIN + letter for letter in letters)]
    pieces += [_word_piece(piece) for piece, _ in learned if len(piece.removeprefix(_MARK)) > 1]
    vocabulary = {piece: number for number, piece in enumerate(list(dict.fromkeys(pieces))[:vocab_size])}
    tokenizer = library.Tokenizer(library.models.WordPiece(vocab=vocabulary, unk_token=SPECIAL[3]))
    tokenizer.add_special_tokens([*SPECIAL, MASK])
    tokenizer.normalizer, tokenizer.pre_tokenizer = pairs.normalizer, before.BertPreTokenizer()
    tokenizer.decoder = library.decoders.WordPiece(prefix=_WITHIN)
    return tokenizer


def _word_piece(piece: str) -> str:
    return piece.removeprefix(_MARK) if piece.startswith(_MARK) else _WITHIN + piece


def _train(
    library: Any, tokenizer: Any, texts: Iterable[str], vocab_size: int, *, special: list[str], alphabet: list[str]
) -> None:
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)


def checked(tokenizer: SubwordTokenizer, where: str) -> SubwordTokenizer:
    """The tokenizer, once the library has read it."""
    try:
        assert tokenizer.special
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    # The library raises bare exceptions.
    except Exception as error:
        raise DataError(f"{where} is no tokenizer.json: {error}") from error
    return tokenizer


def from_state(state: Mapping[str, Any]) -> SubwordTokenizer:
    return checked(SubwordTokenizer(json.dumps(state["state"])), "the bundle's tokenizer")


def imported() -> Any:
    # Threads of its own would survive no fork, and it warns of that at each.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import tokenizers

    return tokenizers
