"""Our ViT and CLIP against transformers' own, at real configurations with random weights, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dlsvc.store.bundle import build_model
from dlsvc.store.interchange import complete_arguments, export_directory, import_directory

transformers = pytest.importorskip("transformers", reason="`make test-interop` installs transformers")

NUM_INPUTS = 8
TOLERANCE = 1e-5
EOS_ID = 49407


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.randn(NUM_INPUTS, 3, 224, 224, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def texts() -> dict[str, Tensor]:
    """Texts of 3 to 77 tokens, padded with 0."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([3, 5, 8, 13, 21, 34, 55, 77])[:, None]
    places = torch.arange(77)
    words = torch.randint(3, EOS_ID, (NUM_INPUTS, 77), generator=generator)
    tokens = torch.where(places < lengths - 1, words, torch.where(places == lengths - 1, EOS_ID, 0))
    return {"tokens": tokens, "attention_mask": places < lengths}


def _shake(model: nn.Module) -> None:
    """Norms and biases away from their initial 1 and 0, so that a swap of two would show."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() <= 1:
                parameter.add_(torch.randn_like(parameter) * 0.05)


def _ours(path: Path) -> nn.Module:
    found = import_directory(path)
    model = build_model({"name": found.model, "args": found.args})
    model.load_state_dict(found.weights, strict=True)
    return model.eval()


def _gap(one: Tensor, two: Tensor, what: str) -> float:
    assert one.std(0).max() > 1e-3, "the inputs make no difference: nothing is compared"
    gap = float((one - two).abs().max())
    print(f"{what}: largest difference {gap:.2e}")
    return gap


@torch.inference_mode()
def test_vit_b16_from_transformers(tmp_path: Path, image: Tensor) -> None:
    torch.manual_seed(0)
    theirs = transformers.ViTForImageClassification(transformers.ViTConfig(num_labels=1000)).eval()
    _shake(theirs)
    theirs.save_pretrained(tmp_path)
    assert _gap(_ours(tmp_path)(image), theirs(image).logits, "ViT-B/16 imported") <= TOLERANCE


@torch.inference_mode()
def test_vit_b16_to_transformers(tmp_path: Path, image: Tensor) -> None:
    torch.manual_seed(0)
    model = build_model({"name": "vit", "args": {}}).eval()
    _shake(model)
    export_directory(tmp_path / "out", "transformers", "vit", args={}, weights=model.state_dict())
    theirs = _loaded(transformers.ViTForImageClassification, tmp_path / "out")
    assert theirs.config.num_labels == 1000
    assert _gap(model(image), theirs(image).logits, "ViT-B/16 exported") <= TOLERANCE


@torch.inference_mode()
def test_headless_vit_both_ways(tmp_path: Path) -> None:
    torch.manual_seed(0)
    args = {"image_size": 32, "patch_size": 8, "d_model": 32, "num_layers": 2, "num_heads": 4, "num_classes": 0}
    model = build_model({"name": "vit", "args": args}).eval()
    export_directory(tmp_path / "out", "transformers", "vit", args=args, weights=model.state_dict())
    theirs = _loaded(transformers.ViTModel, tmp_path / "out", add_pooling_layer=False)
    image = torch.randn(2, 3, 32, 32)
    assert _gap(model(image), theirs(image).last_hidden_state[:, 0], "headless ViT exported") <= TOLERANCE
    with_pooler = transformers.ViTModel(theirs.config).eval()
    with_pooler.save_pretrained(tmp_path / "back")
    back = _ours(tmp_path / "back")
    assert _gap(back(image), with_pooler(image).last_hidden_state[:, 0], "headless ViT imported") <= TOLERANCE


@torch.inference_mode()
def test_clip_b32_from_transformers(tmp_path: Path, image: Tensor, texts: Mapping[str, Tensor]) -> None:
    torch.manual_seed(0)
    config = transformers.CLIPConfig(text_config={"eos_token_id": EOS_ID})
    theirs = transformers.CLIPModel(config).eval()
    _shake(theirs)
    theirs.save_pretrained(tmp_path)
    model = _ours(tmp_path)
    assert complete_arguments("clip", import_directory(tmp_path).args)["vision"]["patch_size"] == 32
    _compare_clip(model, theirs, image, texts, texts["tokens"], "CLIP ViT-B/32 imported")


@torch.inference_mode()
@pytest.mark.parametrize(("eos_id", "their_eos_id"), [(EOS_ID, EOS_ID), (2, EOS_ID + 1)])
def test_clip_b32_to_transformers(
    tmp_path: Path, image: Tensor, texts: Mapping[str, Tensor], eos_id: int, their_eos_id: int
) -> None:
    torch.manual_seed(0)
    args = {"text": {"eos_id": eos_id}}
    model = build_model({"name": "clip", "args": args}).eval()
    _shake(model)
    export_directory(tmp_path / "out", "transformers", "clip", args=args, weights=model.state_dict())
    theirs = _loaded(transformers.CLIPModel, tmp_path / "out")
    is_end = texts["tokens"] == EOS_ID
    own = {**texts, "tokens": torch.where(is_end, eos_id, texts["tokens"])}
    _compare_clip(
        model, theirs, image, own, torch.where(is_end, their_eos_id, texts["tokens"]), f"CLIP exported, {eos_id}"
    )


def _compare_clip(
    model: nn.Module, theirs: Any, image: Tensor, texts: Mapping[str, Tensor], their_tokens: Tensor, what: str
) -> None:
    """Embeddings to the tolerance. Logits are their products times some 14, so theirs is 14 times the tolerance."""
    found = model(image, texts["tokens"], texts["attention_mask"])
    expected = theirs(pixel_values=image, input_ids=their_tokens, attention_mask=texts["attention_mask"].long())
    assert _gap(found["image_embeds"], expected.image_embeds, f"{what}, images") <= TOLERANCE
    assert _gap(found["text_embeds"], expected.text_embeds, f"{what}, texts") <= TOLERANCE
    scale = found["logit_scale"]
    logits = scale * found["image_embeds"] @ found["text_embeds"].T
    assert _gap(logits, expected.logits_per_image, f"{what}, logits") <= TOLERANCE * float(scale)


def _loaded(kind: Any, path: Path, **options: Any) -> Any:
    """From a directory, without a name missing or left over."""
    model, info = kind.from_pretrained(path, output_loading_info=True, attn_implementation="sdpa", **options)
    assert not any(info[problem] for problem in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    return model.eval()
