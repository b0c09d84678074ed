"""Vocabularies in the files that the field ships them in: ids counted by hand, and MiniLM's two files of one
vocabulary.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers.pre_tokenizers import ByteLevel

from dlsvc.data import convert
from dlsvc.data.catalog import entry
from dlsvc.data.text_input import TextInput
from dlsvc.data.tokenizer import tokenizer_from_json
from dlsvc.data.vocabulary_files import read_vocabulary
from dlsvc.errors import DataError

# Ġ is the space's letter; Ã and © are the two bytes of é.
GPT2 = ["l", "o", "w", "e", "r", "Ġ", "Ã", "©", "lo", "low", "er", "Ġlow", "<|endoftext|>"]
GPT2_MERGES = ["#version: 0.2", "l o", "lo w", "e r", "Ġ low"]
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", *GPT2[:-1], "<mask>"]
CLIP = ["l", "o", "w", "e", "r", "w</w>", "r</w>", "s</w>", "'", "lo", "low</w>", "low", "er</w>", "lower</w>"]
CLIP_MERGES = ["#version: 0.2", "l o", "lo w</w>", "lo w", "e r</w>", "low er</w>"]
CLIP += ["'s</w>", "1</w>", "<|startoftext|>", "<|endoftext|>"]
BERT = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "low", "##er", "e", "!", "'", "s"]


def written(folder: Path, **files: Any) -> Path:
    """Files by their names, _ for the dot: lists of lines, or JSON."""
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.write_text(json.dumps(content) if path.suffix == ".json" else "\n".join(content) + "\n")
    return folder


def numbered(tokens: list[str]) -> dict[str, int]:
    return {token: number for number, token in enumerate(tokens)}


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("low lower", [9, 11, 10]),
        (" low", [11]),
        ("Low", [1, 2]),
        ("lé  low", [0, 6, 7, 5, 11]),
        ("low<|endoftext|>er", [9, 12, 10]),
    ],
)
def test_gpt2(text: str, ids: list[int], tmp_path: Path) -> None:
    """What the vocabulary lacks, as it does L, is left out."""
    folder = written(tmp_path, vocab__json=numbered(GPT2), merges__txt=GPT2_MERGES)
    for path in (folder, folder / "vocab.json", folder / "merges.txt"):
        tokenizer = read_vocabulary(path)
        assert tokenizer.encode(text) == ids
    assert set(tokenizer.special) == {12}
    assert tokenizer.decode([9, 11, 10, 6, 7, 12, 0]) == "low loweré"


def test_gpt2_with_a_space_before_the_first_word(tmp_path: Path) -> None:
    folder = written(tmp_path, tokenizer_config__json={"add_prefix_space": True})
    written(folder, vocab__json=numbered(GPT2), merges__txt=GPT2_MERGES)
    assert read_vocabulary(folder).encode("lower") == [11, 10]


def test_files_may_have_a_name_before_theirs(tmp_path: Path) -> None:
    (tmp_path / "gpt2-vocab.json").write_text(json.dumps(numbered(GPT2)))
    (tmp_path / "gpt2-merges.txt").write_text("\n".join(GPT2_MERGES[1:]))
    assert read_vocabulary(tmp_path / "gpt2-vocab.json").encode("lower") == [9, 10]


def test_roberta(tmp_path: Path) -> None:
    tokenizer = read_vocabulary(written(tmp_path, vocab__json=numbered(ROBERTA), merges__txt=GPT2_MERGES))
    assert tokenizer.special == (1, 0, 2, 3, 16)
    assert tokenizer.encode("low<mask> lower") == [13, 16, 15, 14]


def test_added_tokens_and_what_they_take_with_them(tmp_path: Path) -> None:
    """RoBERTa's mask takes the space before it; what is added comes after the vocabulary."""
    mask = {"content": "<mask>", "lstrip": True, "normalized": False, "special": True}
    more = {"content": "<|user|>", "lstrip": False, "normalized": False, "special": True}
    written(tmp_path, vocab__json=numbered(ROBERTA), merges__txt=GPT2_MERGES)
    written(tmp_path, tokenizer_config__json={"added_tokens_decoder": {"16": mask, "17": more}})
    written(tmp_path, added_tokens__json={"lowlow": 18})
    tokenizer = read_vocabulary(tmp_path)
    assert tokenizer.vocab_size == 19
    assert tokenizer.encode("<|user|>low <mask> lowlow") == [17, 13, 16, 9, 18]
    written(tmp_path, added_tokens__json={"lowlow": 20})
    with pytest.raises(DataError, match="the added token 'lowlow' is said to be number 20, and is 18"):
        read_vocabulary(tmp_path)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("low lower", [10, 13]),
        ("LOW  lo\twer", [10, 0, 17, 2, 12]),
        ("low's", [10, 14]),
        ("lowlow 1", [11, 10, 15]),
        ("<|startoftext|>low", [16, 10]),
    ],
)
def test_clip(text: str, ids: list[int], tmp_path: Path) -> None:
    tokenizer = read_vocabulary(written(tmp_path, vocab__json=numbered(CLIP), merges__txt=[*CLIP_MERGES, "' s</w>"]))
    assert tokenizer.encode(text) == ids
    assert tokenizer.special == (17, 16, 17, 17, 17)


def test_clip_reads_as_words(tmp_path: Path) -> None:
    tokenizer = read_vocabulary(written(tmp_path, vocab__json=numbered(CLIP), merges__txt=[*CLIP_MERGES, "' s</w>"]))
    assert tokenizer.decode([16, 10, 13, 14, 17, 10]) == "low lower 's"


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_clip_from_openais_merges(ending: str, tmp_path: Path) -> None:
    """Tokens are numbered by the rule: a's byte is the 64th that prints, so a is 64 and at a word's end 256 more;
    merges follow from 512 on, and the two marks come last.
    """
    lines = b'"bpe_simple_vocab_16e6.txt#version: 0.2 - Copyright 2020\na t</w>\nc at</w>\nc a\n'
    file = tmp_path / f"bpe_simple_vocab_16e6.txt{ending}"
    file.write_bytes(gzip.compress(lines) if ending else lines)
    for path in (file, tmp_path):
        tokenizer = read_vocabulary(path)
        assert tokenizer.vocab_size == 512 + 3 + 2
        # What prints begins at !, which is 33; é is the bytes C3 and A9, the letters Ã and ©.
        assert tokenizer.encode("A cat") == [256 + 64, 513]
        assert tokenizer.encode("at éa ") == [512, 94 + 12 + (0xC3 - 0xAE), 94 + (0xA9 - 0xA1), 256 + 64]
        assert tokenizer.special == (516, 515, 516, 516, 516)


def test_openais_file_holds_more_merges_than_clip_has(tmp_path: Path) -> None:
    letters = sorted(ByteLevel.alphabet())
    pairs = [f"{one} {other}" for one in letters for other in letters][:50_000]
    (tmp_path / "bpe_simple_vocab_16e6.txt").write_text("\n".join(["#version: 0.2", *pairs]), encoding="utf-8")
    tokenizer = read_vocabulary(tmp_path)
    assert tokenizer.vocab_size == 49408
    assert (tokenizer.special.bos, tokenizer.special.eos) == (49406, 49407)


@pytest.mark.parametrize(
    ("tokens", "settings", "text", "ids"),
    [
        (BERT, None, "Lower, LOW é!", [6, 7, 2, 6, 8, 9]),
        (BERT, {"do_lower_case": False}, "low LOW é", [6, 2, 2]),
        (BERT, {"strip_accents": False}, "LOW é", [6, 2]),
        (BERT, None, "low's [MASK]", [6, 10, 11, 5]),
        ([*BERT, "Low", "é"], None, "Low low é", [12, 6, 13]),
        ([*BERT, "Low", "中国", "中"], {"do_lower_case": True}, "Low 中国", [6, 14, 2]),
        ([*BERT, "中国"], {"tokenize_chinese_chars": False}, "中国", [12]),
    ],
)
def test_bert(tokens: list[str], settings: dict[str, Any] | None, text: str, ids: list[int], tmp_path: Path) -> None:
    """Cased where tokenizer_config.json says so, or else where a token has a capital letter."""
    folder = written(tmp_path, vocab__txt=tokens)
    if settings is not None:
        written(folder, tokenizer_config__json=settings)
    for path in (folder, folder / "vocab.txt"):
        tokenizer = read_vocabulary(path)
        assert tokenizer.encode(text) == ids
    assert tokenizer.special == (0, 3, 4, 2, 5)


def test_minilms_two_files_are_one_vocabulary(home: Path) -> None:
    """Its vocab.txt and its tokenizer.json, which another library wrote, from the catalog."""
    folder = convert.pull(entry("minilm"), home)
    one, other = read_vocabulary(folder / "tokenizer.json"), read_vocabulary(folder / "vocab.txt")
    texts = [
        "A man is eating food.",
        "Élan, naïve: don't [MASK]!",
        "中国 🙂 ß İstanbul\u200b\x00 tab\tx",
        "123 1.5e-4 a_b",
    ]
    assert [one.encode(text) for text in texts] == [other.encode(text) for text in texts]
    assert one.special == other.special
    assert one.vocab_size == other.vocab_size == 30522


@pytest.mark.parametrize("kind", ["gpt2", "clip", "bert"])
def test_kept_in_the_bundle(kind: str, tmp_path: Path) -> None:
    files = {
        "gpt2": {"vocab__json": numbered(GPT2), "merges__txt": GPT2_MERGES},
        "clip": {"vocab__json": numbered(CLIP), "merges__txt": CLIP_MERGES},
        "bert": {"vocab__txt": BERT},
    }
    tokenizer = read_vocabulary(written(tmp_path, **files[kind]))
    again = tokenizer_from_json(json.loads(json.dumps(tokenizer.to_json())))
    one, other = (TextInput(kept, 8).encode(["low lower", "LOW! é"]) for kept in (tokenizer, again))
    assert all((one[name] == other[name]).all() for name in one)
    assert again.special == tokenizer.special


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"holds no vocabulary: none of tokenizer\.json, vocab\.json, vocab\.txt"),
        ({"vocab__json": numbered(GPT2)}, r"vocab\.json needs merges\.txt beside it"),
        ({"vocab__json": ["a"], "merges__txt": []}, r"vocab\.json: must be a JSON object"),
        ({"vocab__json": {"a": "b"}, "merges__txt": []}, r"the token 'a' has 'b' for its number"),
        ({"vocab__json": {"a": 1, "b": 1}, "merges__txt": []}, "two tokens have one number"),
        (
            {"vocab__json": numbered(GPT2), "merges__txt": [*GPT2_MERGES, "l o w"]},
            r"merges\.txt:6: 'l o w' is no merge",
        ),
        ({"vocab__json": numbered(GPT2), "merges__txt": ["l o", "", "lo w"]}, r"merges\.txt:2: '' is no merge"),
        ({"vocab__json": numbered(GPT2), "merges__txt": ["l o", "o w"]}, r"merges\.txt:2: .* no token 'ow'"),
        ({"vocab__json": numbered(GPT2[:-1]), "merges__txt": GPT2_MERGES}, "no token that ends a text"),
        ({"vocab__json": numbered(CLIP[:-2]), "merges__txt": CLIP_MERGES}, r"no <\|startoftext\|> and no <\|endoftext"),
        ({"vocab__txt": [*BERT, "low"]}, r"vocab\.txt:13: 'low' again, first in line 7"),
        ({"vocab__txt": [*BERT[:7], "", *BERT[7:]]}, r"vocab\.txt:8: an empty line"),
        ({"vocab__txt": BERT[5:]}, r"vocab\.txt: the vocabulary has no \[UNK\] and no \[CLS\] and no \[SEP\]"),
    ],
)
def test_what_is_broken_is_named(files: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_vocabulary(written(tmp_path, **files))


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    written(tmp_path, merges__txt=GPT2_MERGES)
    with pytest.raises(DataError, match=r"merges\.txt needs vocab\.json beside it"):
        read_vocabulary(tmp_path / "merges.txt")
    (tmp_path / "vocab.json").write_text('{"a": 0,\n"b" 1}')
    with pytest.raises(DataError, match=r"vocab\.json:2: not JSON: Expecting ':' delimiter"):
        read_vocabulary(tmp_path)
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"vocab\.txt can't be read: 'utf-8' codec"):
        read_vocabulary(tmp_path / "vocab.txt")
    (tmp_path / "bpe_simple_vocab_16e6.txt.gz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"16e6\.txt\.gz can't be read: Not a gzipped file"):
        read_vocabulary(tmp_path / "bpe_simple_vocab_16e6.txt.gz")
