"""Vocabularies read from the field's own files against transformers' tokenizers of the same files, fitted here on what
WordNet says of words.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from dlsvc.data.source import open_source
from dlsvc.data.vocabulary_files import read_vocabulary
from dlsvc.spec.data_sections import DataSpec
from dlsvc.store.exchange import import_bundle
from dlsvc.store.models import ModelStore
from serving.predictor import served

transformers = pytest.importorskip("transformers", reason="`make test-interop` installs transformers")

STRANGE = [
    "",
    " ",
    "  two  spaces\tand a tab\n and lines\r\n",
    "It's what they've said; I'll, you'd, we're, can't, I'M, O'CLOCK'S",
    "Élan naïve e\u0301 ß İstanbul ŒUVRE ſ ﬁ Ǆ ΌΣΟΣ",
    "中国人 日本語テキスト 한국어 ไทย हिन्दी العربية עברית",
    "🙂👍🏽👩‍👩‍👧 ☂️ \U0001f1eb\U0001f1f7",
    "3.14159 1e-5 ½ ² ١٢٣ 2026-11-29 $5,000.00",
    "\u200b\ufeff\x00\x07 \xa0nbsp\u3000wide \u2028 line",
    "snake_case CamelCase http://a.b/c?d=e&f=%20 #version: 0.2 </w> ##ing Ġ [unused0]",
    "a<|endoftext|>b <|startoftext|> c</s> <s>d <mask> e[MASK] f [SEP] <pad>[PAD]",
    "x" * 300,
]
SIZE = 2000


@pytest.fixture(scope="module")
def texts(home: Path) -> list[str]:
    table = open_source(DataSpec(source="wordnet"), home).table("train")
    plain = list(table.rows(list(range(0, len(table), 97)))["text"])
    return [*plain, *(text.upper() for text in plain[:200]), *(f"  {text}'s " for text in plain[:200]), *STRANGE]


def _byte_pairs(texts: list[str], special: list[str], suffix: str) -> Any:
    library = tokenizers.Tokenizer(models.BPE(end_of_word_suffix=suffix))
    before: list[Any] = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not suffix)]
    if suffix:
        library.normalizer = normalizers.Lowercase()
        before = [pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation(), *before]
    library.pre_tokenizer = pre_tokenizers.Sequence(before)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    library.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=SIZE,
            special_tokens=special,
            initial_alphabet=letters,
            end_of_word_suffix=suffix,
            show_progress=False,
        ),
    )
    return library


def _write_pairs(folder: Path, library: Any, last: list[str]) -> None:
    """vocab.json and merges.txt as the model writes them, with special tokens at the end."""
    library.model.save(str(folder))
    ids = json.loads((folder / "vocab.json").read_text())
    for letter in pre_tokenizers.ByteLevel.alphabet():
        for token in (letter, f"{letter}</w>") if library.model.end_of_word_suffix else (letter,):
            ids.setdefault(token, len(ids))
    for token in last:
        ids[token] = len(ids)
    (folder / "vocab.json").write_text(json.dumps(ids, ensure_ascii=False))


def _write_pieces(folder: Path, texts: list[str], *, lowercase: bool) -> None:
    library = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    library.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    library.pre_tokenizer, library.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    special = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=SIZE, special_tokens=special, show_progress=False)
    library.train_from_iterator(texts, trainer)
    library.model.save(str(folder))


def _settings(folder: Path, **values: Any) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(values))


def _compare(folder: Path, kind: str, texts: list[str]) -> None:
    theirs, ours = getattr(transformers, kind).from_pretrained(folder), read_vocabulary(folder)
    assert ours.vocab_size == len(theirs)
    wrong = [
        (text, found, expected)
        for text in texts
        for found, expected in [(ours.encode(text), theirs(text, add_special_tokens=False)["input_ids"])]
        if found != expected
    ]
    assert wrong == []
    for role, name in (("bos", "cls"), ("eos", "sep")):
        number = getattr(theirs, f"{name}_token_id", None) or getattr(theirs, f"{role}_token_id", None)
        assert getattr(ours.special, role) == number
    print(f"{kind}: {len(texts)} texts, {sum(len(ours.encode(text)) for text in texts)} equal ids")


def test_gpt2(texts: list[str], tmp_path: Path) -> None:
    _write_pairs(tmp_path, _byte_pairs(texts, [], ""), ["<|endoftext|>"])
    _compare(tmp_path, "GPT2Tokenizer", texts)
    _settings(tmp_path, add_prefix_space=True)
    _compare(tmp_path, "GPT2Tokenizer", texts)


def test_roberta(texts: list[str], tmp_path: Path) -> None:
    library = _byte_pairs(texts, ["<s>", "<pad>", "</s>", "<unk>"], "")
    _write_pairs(tmp_path, library, ["<mask>"])
    _compare(tmp_path, "RobertaTokenizer", texts)


def test_roberta_as_it_was_saved(texts: list[str], tmp_path: Path) -> None:
    """With a mask that takes the space before it and a token more."""
    _write_pairs(tmp_path, _byte_pairs(texts, ["<s>", "<pad>", "</s>", "<unk>"], ""), ["<mask>"])
    mask = transformers.AddedToken("<mask>", lstrip=True, special=True, normalized=False)
    theirs = transformers.RobertaTokenizer.from_pretrained(tmp_path, mask_token=mask)
    theirs.add_tokens(["<|user|>"], special_tokens=True)
    theirs.save_pretrained(tmp_path)
    theirs.save_vocabulary(str(tmp_path))
    whole = json.loads((tmp_path / "tokenizer.json").read_text())
    declared = {str(token.pop("id")): token for token in whole["added_tokens"]}
    _settings(tmp_path, added_tokens_decoder=declared)
    texts = [*texts, "hidden <mask> here<|user|> and <|user|>", " <mask><mask>"]
    expected = [theirs(text, add_special_tokens=False)["input_ids"] for text in texts]
    (tmp_path / "tokenizer.json").unlink()
    ours = read_vocabulary(tmp_path)
    assert [ours.encode(text) for text in texts] == expected


def test_clip(texts: list[str], tmp_path: Path) -> None:
    _write_pairs(tmp_path, _byte_pairs(texts, [], "</w>"), ["<|startoftext|>", "<|endoftext|>"])
    _compare(tmp_path, "CLIPTokenizer", texts)
    theirs, ours = transformers.CLIPTokenizer.from_pretrained(tmp_path), read_vocabulary(tmp_path)
    # Ours end where a text ends, also where it says so itself.
    for text in (text for text in texts if "<|" not in text):
        ids = theirs(text)["input_ids"]
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("says", [True, False])
def test_bert(lowercase: bool, says: bool, texts: list[str], tmp_path: Path) -> None:
    """Cased or not by tokenizer_config.json, or else, where transformers would take all for uncased, by its tokens."""
    _write_pieces(tmp_path, texts, lowercase=lowercase)
    _settings(tmp_path, do_lower_case=lowercase)
    theirs = transformers.BertTokenizer.from_pretrained(tmp_path)
    if not says:
        (tmp_path / "tokenizer_config.json").unlink()
    ours = read_vocabulary(tmp_path)
    assert [ours.encode(text) for text in texts] == [
        theirs(text, add_special_tokens=False)["input_ids"] for text in texts
    ]


@pytest.mark.parametrize("settings", [{"strip_accents": False}, {"tokenize_chinese_chars": False}])
def test_bert_otherwise(settings: dict[str, bool], texts: list[str], tmp_path: Path) -> None:
    _write_pieces(tmp_path, texts, lowercase=True)
    _settings(tmp_path, do_lower_case=True, **settings)
    _compare(tmp_path, "BertTokenizer", texts)


@torch.inference_mode()
def test_an_imported_clip_reads_texts_as_there(texts: list[str], home: Path, tmp_path: Path) -> None:
    """A directory of weights and vocab.json with merges.txt, zero-shot ready."""
    _write_pairs(tmp_path, _byte_pairs(texts, [], "</w>"), ["<|startoftext|>", "<|endoftext|>"])
    theirs = transformers.CLIPTokenizer.from_pretrained(tmp_path)
    width = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": theirs.bos_token_id, "eos_token_id": theirs.eos_token_id}
    torch.manual_seed(0)
    model = transformers.CLIPModel(
        transformers.CLIPConfig(
            text_config={**width, "vocab_size": len(theirs), "max_position_embeddings": 24, **ends},
            vision_config={**width, "image_size": 32, "patch_size": 16},
            projection_dim=16,
        )
    ).eval()
    model.save_pretrained(tmp_path)
    some = [*texts[::100], *STRANGE]
    asked = theirs(some, padding=True, truncation=True, max_length=24, return_tensors="pt")
    expected = model(**asked, pixel_values=torch.zeros(1, 3, 32, 32)).text_embeds
    store = ModelStore(home)
    ours = served(store.open(import_bundle(store, tmp_path, "test-clip-of-theirs")))
    # A text that says its own end is read out there at the first.
    for text, row, vector in zip(
        some, ours.predict([{"text": text, "truncate": True} for text in some]), expected, strict=True
    ):
        np.testing.assert_allclose(row["text_embed"], vector.numpy(), rtol=0, atol=1e-5, err_msg=text)
