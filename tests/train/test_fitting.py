"""What only the fitted data knows is told before a run starts: its classes, its tokens, the range of its images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dlsvc.errors import UsageError
from dlsvc.spec.schema import TrainSpec
from dlsvc.train.prepare import open_run, prepare_job
from tests.train.tiny_systems import TINY
from tests.train.trials import SYSTEMS, spec_of

_GREY = {"size": 16, "channels": 1, "mean": [0.5], "std": [0.5]}
_MINILM = {"vocabulary": "minilm", "max_seq_len": 8}


def prepared(spec: TrainSpec, home: Path) -> None:
    spec, run = open_run(spec, f"fitting-{spec.digest()[:12]}", home)
    prepare_job(spec, run, home)


def of(system: str, part: str = "", data: dict[str, Any] | None = None, **args: Any) -> TrainSpec:
    """The system's spec with other arguments of its model, or of a part of it, and with other data."""
    whole = {**SYSTEMS, **TINY}[system]
    model = whole["model"]
    given = {part: {**model["args"][part], **args}} if part else args
    changed = {"name": model["name"], "args": {**model["args"], **given}}
    return spec_of(system, model=changed, data={**whole["data"], **(data or {})})


def folder(path: Path) -> str:
    """Twelve images of three classes."""
    for number in range(12):
        file = path / "train" / "abc"[number % 3] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 16), number, np.uint8)).save(file)
    return str(path)


@pytest.mark.parametrize(
    ("system", "classes"), [("lenet5", 2), ("lenet5", 10), ("resnet34", 1000), ("ddpm", 2), ("ddpm", 4)]
)
def test_as_many_classes_as_a_folder_has(system: str, classes: int, home: Path, tmp_path: Path) -> None:
    size = {"ddpm": 8}.get(system, 16)
    data = {"source": folder(tmp_path), "image": {**_GREY, "size": size}}
    with pytest.raises(UsageError, match=rf"model\.args\.num_classes: is {classes}, and .* has 3 classes"):
        prepared(of(system, data=data, num_classes=classes), home)
    prepared(of(system, data=data, num_classes=3), home)


def test_a_model_that_makes_no_classes_needs_none(home: Path, tmp_path: Path) -> None:
    prepared(of("ddpm", data={"source": folder(tmp_path)}, num_classes=0), home)


@pytest.mark.parametrize(
    ("system", "image", "problem"),
    [
        ("vae", {"size": 28}, r"in \[-1, 1\] by mean 0.5 and std 0.5, .* in \[0, 1\]; give mean \[0\] and std \[1\]"),
        ("autoencoder", {"size": 8}, r"needs them in \[0, 1\]"),
        ("kl_autoencoder", {"size": 8}, r"needs them in \[0, 1\]"),
        ("gan", {"size": 28, "mean": [0.3052], "std": [0.3749]}, r"in \[-1, 1\]; give mean \[0.5\] and std \[0.5\]"),
        ("ddpm", None, r"needs them in \[-1, 1\]"),
        ("latent_diffusion", {"size": 8, "mean": [0.0], "std": [1.0]}, r"in \[0, 1\] by .* needs them in \[-1, 1\]"),
        ("srresnet", {"size": 16, "channels": 3, "std": [0.5, 0.5, 0.4]}, "by mean 0.5 and std 0.4"),
        ("srgan", {"size": 16, "channels": 3, "mean": [0.5, 0.4, 0.5]}, "by mean 0.4 and std 0.5"),
    ],
)
def test_images_come_in_the_range_that_the_task_needs(system: str, image: Any, problem: str, home: Path) -> None:
    with pytest.raises(UsageError, match=rf"data\.image: images come .*{problem}"):
        prepared(of(system, data={"image": image}), home)
    prepared(of(system), home)


def test_a_half_in_bytes_is_a_half(home: Path) -> None:
    prepared(of("ddpm", data={"image": {"size": 8, "mean": [127 / 255], "std": [128 / 255]}}), home)


@pytest.mark.parametrize(
    ("size", "problem"), [(50, "is 50, which the model's scale 4 must divide"), (16, "is 16; ssim .* at least 20")]
)
def test_images_can_be_made_small_and_measured(size: int, problem: str, home: Path) -> None:
    image = {"size": size, "channels": 3}
    with pytest.raises(UsageError, match=rf"data\.image\.size: {problem}"):
        prepared(of("srresnet", data={"image": image}, scale=4), home)
    if size == 16:
        with pytest.raises(UsageError, match=rf"data\.image\.size: {problem}"):
            prepared(of("srgan", data={"image": image}, scale=4), home)
    prepared(of("srresnet", data={"image": {**image, "size": 20}}, scale=4), home)


def test_counts_are_not_standardised(home: Path) -> None:
    with pytest.raises(UsageError, match=r"data\.standardise: is true, which makes counts negative; give false"):
        prepared(of("glove", data={"standardise": True}), home)


def test_a_mask_is_the_vocabularys(home: Path) -> None:
    word = of("bert", data={"text": {"tokenizer": "word", "vocab_size": 32, "max_seq_len": 8}})
    with pytest.raises(UsageError, match=r"data\.text: the vocabulary has no token that hides a word; give tokenizer"):
        prepared(word, home)
    published = of("bert", data={"text": _MINILM}, vocab_size=30522)
    with pytest.raises(UsageError, match=r"task\.args\.mask_id: is 4, and the vocabulary's mask is 103"):
        prepared(published, home)
    body = published.dump()
    with pytest.raises(UsageError, match=r"task\.args\.mask_id: is 40000, and the vocabulary's mask is 103"):
        prepared(TrainSpec.model_validate({**body, "task": {"args": {"mask_id": 40000}}}), home)
    prepared(TrainSpec.model_validate({**body, "task": {"args": {"mask_id": 103}}}), home)


def test_a_model_knows_every_token_of_a_published_vocabulary(home: Path) -> None:
    with pytest.raises(UsageError, match=r"model\.args\.vocab_size: is 32, and the vocabulary has 30522 tokens"):
        prepared(of("text_classifier", data={"text": _MINILM}), home)
    with pytest.raises(UsageError, match=r"model\.args\.text\.vocab_size: is 512, and the vocabulary has 30522"):
        prepared(of("clip", data={"text": _MINILM}), home)


def test_texts_end_as_the_model_expects(home: Path) -> None:
    data = {"text": _MINILM}
    with pytest.raises(UsageError, match=r"model\.args\.text\.eos_id: is 2, and of this vocabulary it is 102"):
        prepared(of("clip", "text", data, vocab_size=30522), home)
    prepared(of("clip", "text", data, vocab_size=30522, eos_id=102), home)
    data = {"text": {**_MINILM, "prompt": "a {label}"}}
    with pytest.raises(UsageError, match=r"model\.args\.text\.bos_id: is 1, and of this vocabulary it is 101"):
        prepared(of("latent_diffusion", "text", data, vocab_size=30522, eos_id=102), home)
    with pytest.raises(UsageError, match=r"model\.args\.text\.pad_id: is 5, and of this vocabulary it is 0"):
        prepared(of("latent_diffusion", "text", data, vocab_size=30522, bos_id=101, eos_id=102, pad_id=5), home)


def test_negatives_need_another_sample(home: Path) -> None:
    with pytest.raises(UsageError, match=r"batch\.micro_size: is 1; task bootstrapped .* at least 2"):
        prepared(spec_of("blip", batch={"global_size": 64, "micro_size": 1}), home)


_TEXT = {"tokenizer": "character", "vocab_size": 32, "max_seq_len": 8}
_FEW = ["a cat", "a dog", "two cats"] * 4


@pytest.mark.parametrize(
    ("system", "columns", "data", "problem"),
    [
        (
            "transformer",
            {"text": _FEW},
            {"text": _TEXT},
            r"data\.text\.target: task translation reads target_tokens, and rows gives attention_mask, tokens; data "
            r"needs `text: {tokenizer: bpe, target: target_text}`",
        ),
        ("gpt2", {"text": _FEW}, {"text": None}, r"data\.text: task language-modeling reads tokens, .* gives nothing"),
        (
            "glove",
            {"text": _FEW, "count": [1.0] * 12},
            {"columns": {}},
            r"data\.columns\.features: task co-occurrence reads features, .* data needs `columns: {features: \.\.\.}`",
        ),
        ("text_classifier", {"text": _FEW}, {"text": _TEXT}, r"data\.columns\.label: .* reads label, and rows gives"),
        (
            "text_classifier",
            {"text": _FEW, "label": _FEW},
            {"text": None},
            r"data: .* reads image or video .* and rows gives label",
        ),
        (
            "llava",
            {"image": [b"no image"] * 12, "question": _FEW, "answer": _FEW},
            {"text": {**_TEXT, "column": "question"}},
            r"data\.text\.chat: task conversation reads answer_mask, and rows gives attention_mask, image, tokens",
        ),
    ],
)
def test_data_gives_what_the_task_reads(
    system: str, columns: dict[str, Any], data: dict[str, Any], problem: str, home: Path, tmp_path: Path
) -> None:
    """Even where no row can be decoded: what one would have is known of it."""
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    with pytest.raises(UsageError, match=problem):
        prepared(of(system, data={"source": str(tmp_path / "rows.parquet"), "limit": None, **data}), home)
