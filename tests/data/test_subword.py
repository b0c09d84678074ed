"""Subword vocabularies, fitted and published."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlsvc.data.subword import fit_subwords
from dlsvc.data.tokenizer import CharacterTokenizer, build_tokenizer, encode_batch, tokenizer_from_json
from dlsvc.data.vocabulary_files import read_vocabulary
from dlsvc.errors import DataError

TEXTS = ["the lower the newest", "the widest low tower", "Élan, the newer one!"] * 3
_PRINT = (
    "import json; from dlsvc.data.subword import fit_subwords; from tests.data.test_subword import TEXTS; "
    "print(json.dumps([fit_subwords(kind, TEXTS, 300).state for kind in ('bpe', 'wordpiece')]))"
)


@given(st.text(max_size=40).filter(lambda text: "<" not in text))
@settings(deadline=None, derandomize=True, database=None, max_examples=50)
def test_byte_pairs_give_any_text_back(text: str) -> None:
    tokenizer = fit_subwords("bpe", TEXTS, 280)
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_special_ids_and_state(kind: str) -> None:
    tokenizer = build_tokenizer(kind, TEXTS, 300)
    assert tuple(tokenizer.special) == (0, 1, 2, 3, 4)
    assert tokenizer.vocab_size <= 300
    again = tokenizer_from_json(json.loads(json.dumps(tokenizer.to_json())))
    assert again.encode("the lowest tower") == tokenizer.encode("the lowest tower")
    tokens, mask = encode_batch(tokenizer, ["the lowest"], 12)
    assert tokens[0, 0] == 1
    assert tokens[0, mask.sum() - 1] == 2
    assert again.decode(tokens[0].tolist()) == "the lowest"
    assert tokenizer.encode("a <mask> b").count(4) == 1


def test_a_vocabulary_is_the_same_in_every_process() -> None:
    runs = [
        subprocess.run([sys.executable, "-c", _PRINT], capture_output=True, text=True, check=True) for _ in range(2)
    ]
    assert runs[0].stdout == runs[1].stdout
    assert json.loads(runs[0].stdout)[0] == fit_subwords("bpe", TEXTS, 300).state


def test_characters_keep_case_and_spaces() -> None:
    tokenizer = CharacterTokenizer.fit(["Ab ba"], 100)
    assert tokenizer.decode(tokenizer.encode("bA b")) == "bA b"
    assert tokenizer.encode("z") == [3]


def test_published_vocabularies_say_what_is_special(tmp_path: Path) -> None:
    state = json.loads(fit_subwords("wordpiece", TEXTS, 300).state)
    both_names = ("<pad> [PAD]", "<bos> [CLS]", "<eos> [SEP]", "<unk> [UNK]", "<mask> [MASK]")
    renamed = json.dumps(state)
    for both in both_names:
        renamed = renamed.replace(*both.split())
    (tmp_path / "tokenizer.json").write_text(renamed)
    assert tuple(read_vocabulary(tmp_path / "tokenizer.json").special) == (0, 1, 2, 3, 4)


def test_what_is_no_vocabulary_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.json").write_text("{}")
    with pytest.raises(DataError, match=r"no.json is no tokenizer.json"):
        read_vocabulary(tmp_path / "no.json")
    with pytest.raises(DataError, match="can't be read"):
        read_vocabulary(tmp_path / "absent.json")
    bare = json.loads(fit_subwords("bpe", TEXTS, 300).state)
    bare["added_tokens"] = []
    bare["model"]["vocab"] = {name: number for name, number in bare["model"]["vocab"].items() if "<" not in name}
    (tmp_path / "bare.json").write_text(json.dumps(bare))
    with pytest.raises(DataError, match="no token that ends a text"):
        read_vocabulary(tmp_path / "bare.json")
