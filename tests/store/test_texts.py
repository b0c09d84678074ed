"""Directories of models of texts, with the vocabularies that the field ships beside weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dlsvc.data.chat_input import IMAGE_ID, ChatInput
from dlsvc.data.codecs import encode_png
from dlsvc.data.preprocess import Preprocess
from dlsvc.data.vocabulary import Special
from dlsvc.errors import DataError, UsageError
from dlsvc.registry import resolve
from dlsvc.store.bundle import build_model
from dlsvc.store.exchange import export_bundle, import_bundle
from dlsvc.store.interchange import export_directory
from dlsvc.store.models import ModelStore
from serving.predictor import served
from tests.data.test_vocabulary_files import CLIP, CLIP_MERGES, GPT2, GPT2_MERGES, numbered, written

SMALL = {"d_model": 16, "num_layers": 1, "num_heads": 2}
ARGS: dict[str, dict[str, Any]] = {
    "gpt2": {**SMALL, "vocab_size": len(GPT2), "max_seq_len": 16},
    "clip": {
        "embed_dim": 8,
        "vision": {**SMALL, "image_size": 16, "patch_size": 8},
        "text": {**SMALL, "vocab_size": len(CLIP), "max_seq_len": 8, "eos_id": len(CLIP) - 1},
    },
    "llava": {
        "vision": {**SMALL, "image_size": 16, "patch_size": 8},
        "language": {**SMALL, "vocab_size": len(GPT2), "max_seq_len": 32, "hidden_dim": 32},
    },
}
FILES = {"gpt2": (GPT2, GPT2_MERGES), "clip": (CLIP, CLIP_MERGES), "llava": (GPT2, GPT2_MERGES)}


def directory(folder: Path, name: str, *, tokens: list[str] | None = None) -> Path:
    """A small model with random weights as transformers keeps it, and its vocabulary in two files."""
    torch.manual_seed(0)
    model = build_model({"name": name, "args": ARGS[name]})
    export_directory(folder, "transformers", name, args=ARGS[name], weights=model.state_dict())
    own, merges = FILES[name]
    return written(folder, vocab__json=numbered(tokens or own), merges__txt=merges)


def test_gpt2_writes(home: Path, tmp_path: Path) -> None:
    store = ModelStore(home)
    bundle = store.open(import_bundle(store, directory(tmp_path / "gpt2", "gpt2"), "test-gpt2-of-files"))
    text = Preprocess.from_json(bundle.preprocess).text
    assert text is not None
    assert text.tokenizer.encode("low lower") == [9, 11, 10]
    (found,) = served(bundle).predict([{"text": "low lower", "max_new_tokens": 3}])
    assert found["text"] == text.tokenizer.decode(found["written"].tolist())


def test_llava_answers_of_an_image(home: Path, tmp_path: Path) -> None:
    """With the image's four patches where its turn shows it, in LLaVA's template."""
    store = ModelStore(home)
    bundle = store.open(import_bundle(store, directory(tmp_path / "llava", "llava"), "test-llava-of-files"))
    text = Preprocess.from_json(bundle.preprocess).text
    assert isinstance(text, ChatInput)
    assert (text.max_seq_len, text.image_tokens) == (32, 4)
    begin, space = 12, 5
    tokens = text.encode([text.request("low", images=1)])
    assert tokens["tokens"][tokens["attention_mask"]].tolist() == [begin, space, *[IMAGE_ID] * 4, 9, space, begin]
    image = encode_png(np.zeros((16, 16, 3), np.uint8))
    (found,) = served(bundle).predict([{"image": image, "text": "low", "max_new_tokens": 3}])
    assert found["text"] == text.tokenizer.decode(found["written"].tolist())


def test_clip_reads_texts_and_images(home: Path, tmp_path: Path) -> None:
    store = ModelStore(home)
    bundle = store.open(import_bundle(store, directory(tmp_path / "clip", "clip"), "test-clip-of-files"))
    predictor = served(bundle)
    assert predictor.reads == ("image", "text")
    one, same, other = (row["text_embed"] for row in predictor.predict([{"text": t} for t in ("low", "LOW ", "lower")]))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(("name", "part"), [("gpt2", ""), ("llava", "text_config"), ("clip", "text_config")])
def test_exported_texts_end_as_the_vocabulary_says(name: str, part: str, home: Path, tmp_path: Path) -> None:
    store, own = ModelStore(home), directory(tmp_path / name, name)
    export_bundle(store.open(import_bundle(store, own, f"test-{name}-to-end")), tmp_path / "out", "transformers")
    # GPT-2's has one token for all three.
    expected = (17, 16, 17) if name == "clip" else (12, 12, 12)
    assert _ends(tmp_path / "out", part) == expected


def test_of_fitted_vocabularies_the_first_ids_are_special(tmp_path: Path) -> None:
    assert _ends(directory(tmp_path / "gpt2", "gpt2")) == (0, 1, 2)


def test_blip_ends_texts_with_its_separator(tmp_path: Path) -> None:
    args: dict[str, Any] = resolve("model", "blip").options["tiny"]
    state = build_model({"name": "blip", "args": args}).state_dict()
    special = Special(pad=3, bos=4, eos=5)
    export_directory(tmp_path / "blip", "transformers", "blip", args=args, weights=state, special=special)
    assert _ends(tmp_path / "blip", "text_config") == (3, 4, 5)
    assert json.loads((tmp_path / "blip" / "config.json").read_text())["text_config"]["sep_token_id"] == 5


def _ends(folder: Path, part: str = "") -> tuple[int, int, int]:
    """A config.json's padding, begin and end."""
    config = json.loads((folder / "config.json").read_text())
    found = config[part] if part else config
    return found["pad_token_id"], found["bos_token_id"], found["eos_token_id"]


def test_clip_without_a_vocabulary_reads_images(home: Path, tmp_path: Path) -> None:
    store, folder = ModelStore(home), directory(tmp_path / "clip", "clip")
    (folder / "vocab.json").unlink()
    bundle = store.open(import_bundle(store, folder, "test-clip-of-images"))
    assert Preprocess.from_json(bundle.preprocess).reads == ("image",)


def test_what_does_not_belong_together_is_refused(home: Path, tmp_path: Path) -> None:
    store, larger = ModelStore(home), directory(tmp_path / "larger", "gpt2", tokens=[*GPT2, "more"])
    with pytest.raises(DataError, match="the vocabulary has 14 tokens and the model 13"):
        import_bundle(store, larger, "test-none")
    ends = directory(tmp_path / "ends", "clip", tokens=[*CLIP[:-2], CLIP[-1], CLIP[-2]])
    with pytest.raises(DataError, match=r"a text ends with token 16, and by config\.json with 17"):
        import_bundle(store, ends, "test-none")


@pytest.mark.parametrize("name", ["gpt2", "llava"])
def test_what_reads_texts_needs_a_vocabulary(name: str, home: Path, tmp_path: Path) -> None:
    bare = directory(tmp_path / "bare", name)
    (bare / "vocab.json").unlink()
    with pytest.raises(UsageError, match=rf"has no vocabulary, which a {name} needs to read texts: tokenizer\.json"):
        import_bundle(ModelStore(home), bare, "test-none")
