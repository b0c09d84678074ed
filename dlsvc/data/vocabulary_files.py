"""Published vocabularies, read from whichever files their authors wrote:

    tokenizer.json                  anything, as Hugging Face's `tokenizers` keeps it
    vocab.json and merges.txt       byte pairs of GPT-2 (Radford et al. 2019, section 2.2) and RoBERTa; or of CLIP
                                    (Radford et al. 2021, section 2.4), lower case, whose words end in </w>
    bpe_simple_vocab_16e6.txt(.gz)  CLIP's merges alone, as OpenAI ships them: the tokens follow from these
    vocab.txt                       pieces of words of BERT (Devlin et al. 2019), a token a line

`tokenizer_config.json` beside them is read for what changes ids: do_lower_case, strip_accents, tokenize_chinese_chars,
add_prefix_space and added tokens. Ids are those of transformers' tokenizers of the same files.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dlsvc.data.subword import NAMES, TOKENIZER, SubwordTokenizer, checked, imported
from dlsvc.errors import DataError

_VOCAB, _MERGES, _PIECES, _CLIP = "vocab.json", "merges.txt", "vocab.txt", "bpe_simple_vocab_16e6.txt"
# Of a folder's files the first that there is.
FILES = (TOKENIZER, _VOCAB, _PIECES, f"{_CLIP}.gz", _CLIP)
_CONFIG, _ADDED = "tokenizer_config.json", "added_tokens.json"

_START, _END = "<|startoftext|>", "<|endoftext|>"
_WORD_END = "</w>"
# How CLIP cuts a text (its simple_tokenizer.py): endings after an apostrophe, letters, single digits, other signs.
_CLIP_WORD = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
# CLIP has 49,408 tokens: twice the 256 bytes, merges, of which the file holds more, and its two marks.
_CLIP_MERGES = 49408 - 2 * 256 - 2
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def find_vocabulary(folder: Path) -> Path | None:
    """The file that a folder's vocabulary is read from, if there is one."""
    return next((folder / name for name in FILES if (folder / name).is_file()), None)


def read_vocabulary(path: str | Path) -> SubwordTokenizer:
    """The vocabulary of a file or a folder of files. Raises DataError saying what is wrong, and in which line."""
    file: Path | None = Path(path)
    if Path(path).is_dir():
        file = find_vocabulary(Path(path))
        if file is None:
            raise DataError(f"data.text.vocabulary: {path} holds no vocabulary: none of {', '.join(FILES)}")
    assert file is not None
    if file.name.endswith((_VOCAB, _MERGES)):
        return _pairs(file)
    if file.name in (_CLIP, f"{_CLIP}.gz"):
        return _clip_merges(file)
    if file.name.endswith(".txt"):
        return _word_pieces(file)
    return checked(SubwordTokenizer(_text(file)), str(file))


def _pairs(file: Path) -> SubwordTokenizer:
    """Of vocab.json and the merges.txt beside it; either may have something before its name, as in gpt2-vocab.json."""
    start = file.name.removesuffix(_VOCAB).removesuffix(_MERGES)
    vocab, merges = file.with_name(start + _VOCAB), file.with_name(start + _MERGES)
    for one, other in ((vocab, merges), (merges, vocab)):
        if not one.is_file():
            raise DataError(f"{other} needs {one.name} beside it: byte pairs are tokens and the merges that make them")
    ids = _ids(vocab)
    pairs = _merges(merges, _lines(merges), ids)
    if any(token.endswith(_WORD_END) for token in ids):
        return _clip(vocab, ids, pairs)
    library = imported()
    tokenizer = library.Tokenizer(library.models.BPE(vocab=ids, merges=pairs))
    space = bool(_settings(file).get("add_prefix_space", False))
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=space)
    tokenizer.decoder = library.decoders.ByteLevel()
    return _finished(tokenizer, vocab)


def _clip_merges(file: Path) -> SubwordTokenizer:
    """Tokens are the bytes, the bytes that end a word, what merges make in their order, and the two marks."""
    lines = _lines(file)[: 1 + _CLIP_MERGES]
    letters = [*_byte_letters(), *(letter + _WORD_END for letter in _byte_letters())]
    made = ["".join(line.split(" ")) for line in lines[1:]]
    ids = {token: number for number, token in enumerate([*letters, *made, _START, _END])}
    return _clip(file, ids, _merges(file, lines, ids))


def _clip(file: Path, ids: dict[str, int], pairs: list[tuple[str, str]]) -> SubwordTokenizer:
    _require(file, ids, (_START, _END))
    library = imported()
    model = library.models.BPE(vocab=ids, merges=pairs, unk_token=_END, end_of_word_suffix=_WORD_END)
    tokenizer = library.Tokenizer(model)
    normal, before = library.normalizers, library.pre_tokenizers
    tokenizer.normalizer = normal.Sequence(
        [normal.NFC(), normal.Replace(library.Regex(r"\s+"), " "), normal.Lowercase()]
    )
    words = before.Split(library.Regex(_CLIP_WORD), behavior="removed", invert=True)
    tokenizer.pre_tokenizer = before.Sequence([words, before.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = library.decoders.ByteLevel()
    return _finished(tokenizer, file)


def _byte_letters() -> list[str]:
    """The letter that stands for each byte (GPT-2's encoder.py): itself where it prints, or else one from U+0100 on. In
    CLIP's order, those that print first.
    """
    printing = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in printing] + [chr(256 + place) for place in range(256 - len(printing))]


def _word_pieces(file: Path) -> SubwordTokenizer:
    """Of vocab.txt. Without a word in tokenizer_config.json texts are lower-cased if no token has a capital letter."""
    ids: dict[str, int] = {}
    for number, token in enumerate(_lines(file)):
        if not token or token in ids:
            found = f"{token!r} again, first in line {ids[token] + 1}" if token else "an empty line"
            raise DataError(f"{file}:{number + 1}: {found}; each line holds one token of its own")
        ids[token] = number
    _require(file, ids, ("[UNK]", "[CLS]", "[SEP]"))
    library, settings = imported(), _settings(file)
    tokenizer = library.Tokenizer(library.models.WordPiece(vocab=ids, unk_token="[UNK]"))
    tokenizer.normalizer = library.normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        strip_accents=settings.get("strip_accents"),
        lowercase=settings.get("do_lower_case", not any(_is_capital(token) for token in ids)),
    )
    tokenizer.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = library.decoders.WordPiece(prefix="##")
    return _finished(tokenizer, file)


def _is_capital(token: str) -> bool:
    return token != token.lower() and not (token.startswith("[") and token.endswith("]"))


def _finished(tokenizer: Any, file: Path) -> SubwordTokenizer:
    """With its special tokens marked as such, and those added that came after the vocabulary."""
    library, declared = imported(), dict(_declared(file))
    known = {name for names in NAMES.values() for name in names} - {entry["content"] for entry in declared.values()}
    for name in sorted(known & tokenizer.get_vocab().keys()):
        tokenizer.add_special_tokens([library.AddedToken(name, special=True, normalized=False)])
    for number, entry in sorted(declared.items()):
        token = library.AddedToken(**entry)
        (tokenizer.add_special_tokens if entry.get("special") else tokenizer.add_tokens)([token])
        found = tokenizer.token_to_id(entry["content"])
        if found != number:
            raise DataError(
                f"{file.parent}: the added token {entry['content']!r} is said to be number {number}, and is {found} by "
                "the vocabulary's size"
            )
    return checked(SubwordTokenizer(tokenizer.to_str()), str(file))


def _declared(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """What the files beside a vocabulary say of added tokens, by number."""
    for token, number in _object(file.with_name(_ADDED)).items():
        yield int(number), {"content": token, "special": False}
    for number, entry in _settings(file).get("added_tokens_decoder", {}).items():
        yield int(number), {"content": entry["content"], **{name: entry[name] for name in _FLAGS if name in entry}}


def _settings(file: Path) -> dict[str, Any]:
    return _object(file.with_name(_CONFIG))


def _object(file: Path) -> dict[str, Any]:
    """The object of a JSON file, empty where there is no file."""
    if not file.is_file():
        return {}
    try:
        found = json.loads(_text(file))
    except json.JSONDecodeError as error:
        raise DataError(f"{file}:{error.lineno}: not JSON: {error.msg}") from error
    if not isinstance(found, dict):
        raise DataError(f"{file}: must be a JSON object")
    return found


def _ids(file: Path) -> dict[str, int]:
    found = _object(file)
    for token, number in found.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise DataError(f"{file}: the token {token!r} has {number!r} for its number; they are integers from 0")
    if len(set(found.values())) < len(found):
        raise DataError(f"{file}: two tokens have one number")
    return found


def _merges(file: Path, lines: Sequence[str], ids: Mapping[str, int]) -> list[tuple[str, str]]:
    """The pairs of a file of merges, each of tokens that make a token; the first line may be a heading."""
    pairs = []
    start = 1 if lines and "#version" in lines[0] else 0
    for number, line in enumerate(lines[start:], start + 1):
        parts = line.split(" ")
        if len(parts) != 2 or not all(parts):
            raise DataError(f"{file}:{number}: {line!r} is no merge: two tokens with a space between")
        unknown = [token for token in (*parts, "".join(parts)) if token not in ids]
        if unknown:
            raise DataError(f"{file}:{number}: the vocabulary has no token {unknown[0]!r}")
        pairs.append((parts[0], parts[1]))
    return pairs


def _require(file: Path, ids: Mapping[str, int], names: Iterable[str]) -> None:
    missing = [name for name in names if name not in ids]
    if missing:
        raise DataError(f"{file}: the vocabulary has no {' and no '.join(missing)}")


def _lines(file: Path) -> list[str]:
    """Without the end of the last one. Only line feeds part them: tokens may hold other signs that part lines."""
    return _text(file).removesuffix("\n").split("\n")


def _text(file: Path) -> str:
    try:
        content = file.read_bytes()
        whole = gzip.decompress(content) if file.suffix == ".gz" else content
        return whole.decode("utf-8").replace("\r\n", "\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"data.text.vocabulary: {file} can't be read: {reason}") from error
