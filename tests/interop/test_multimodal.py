"""Our models of images and texts against transformers' own, with random weights, both ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dlsvc.models.blip import BLIP
from dlsvc.models.blip2_qformer import BLIP2QFormer
from dlsvc.models.llava import IMAGE_ID
from dlsvc.store.bundle import build_model
from dlsvc.store.interchange import export_directory, import_directory
from dlsvc.store.keymaps import export_weights, import_weights

transformers = pytest.importorskip("transformers", reason="`make test-interop` installs transformers")

TOLERANCE = 1e-5
# CLIP's tower of ViT-L/14 at a quarter of its width, with a Llama whose heads share keys and values.
LLAVA = {
    "vision": {"image_size": 56, "patch_size": 14, "d_model": 256, "num_layers": 6, "num_heads": 8},
    "language": {
        "vocab_size": 1000,
        "max_seq_len": 64,
        "d_model": 256,
        "num_layers": 4,
        "num_heads": 8,
        "num_kv_heads": 2,
        "hidden_dim": 688,
    },
}
PATCHES = 16
# BERT base's width in a third of its layers.
BLIP_SIZES: dict[str, dict[str, Any]] = {
    "vision": {"image_size": 64, "patch_size": 16, "d_model": 768, "num_layers": 4, "num_heads": 12},
    "text": {"vocab_size": 3000, "max_seq_len": 40, "num_layers": 4},
}
QFORMER = {
    "vision": {"image_size": 56, "patch_size": 14, "d_model": 256, "num_layers": 2, "num_heads": 8},
    "qformer": {"num_layers": 6},
    "text": {"vocab_size": 3000, "max_seq_len": 40},
}


@pytest.fixture
def texts() -> tuple[Tensor, Tensor]:
    """Tokens (3, 20) and what counts of them."""
    lengths = torch.tensor([20, 9, 14])[:, None]
    keep = torch.arange(20) < lengths
    return torch.randint(5, 900, (3, 20), generator=torch.Generator().manual_seed(1)) * keep, keep


@torch.inference_mode()
def test_llava_to_transformers(tmp_path: Path, texts: tuple[Tensor, Tensor]) -> None:
    ours = _random("llava", LLAVA)
    export_directory(tmp_path / "out", "transformers", "llava", args=LLAVA, weights=ours.state_dict())
    theirs, report = transformers.LlavaForConditionalGeneration.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert _llava_gap(ours, theirs.eval(), 1000, texts) <= TOLERANCE


@torch.inference_mode()
def test_llava_from_transformers(tmp_path: Path, texts: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    vision = transformers.CLIPVisionConfig(
        hidden_size=256,
        num_hidden_layers=6,
        num_attention_heads=8,
        intermediate_size=1024,
        image_size=56,
        patch_size=14,
    )
    language = transformers.LlamaConfig(
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=2,
        intermediate_size=688,
        vocab_size=1001,
    )
    config = transformers.LlavaConfig(vision_config=vision, text_config=language, image_token_index=1000)
    theirs = _shaken(transformers.LlavaForConditionalGeneration(config).eval())
    theirs.save_pretrained(tmp_path)
    found = import_directory(tmp_path)
    ours = build_model({"name": found.model, "args": found.args}).eval()
    ours.load_state_dict(found.weights, strict=True)
    assert _llava_gap(ours, theirs, 1000, texts) <= TOLERANCE


@torch.inference_mode()
def test_blip_writes_as_transformers_does(tmp_path: Path, texts: tuple[Tensor, Tensor]) -> None:
    ours, (tokens, keep), image = _random("blip", BLIP_SIZES), texts, torch.randn(3, 3, 64, 64)
    assert isinstance(ours, BLIP)
    export_directory(tmp_path / "out", "transformers", "blip", args=BLIP_SIZES, weights=ours.state_dict())
    theirs = transformers.BlipForConditionalGeneration.from_pretrained(tmp_path / "out").eval()
    expected = theirs(pixel_values=image, input_ids=tokens, attention_mask=keep.long()).logits
    found = ours.write(ours.vision_encoder(image), tokens, keep)
    assert _gap(found[keep], expected[keep], "blip writes") <= TOLERANCE


@torch.inference_mode()
def test_blip_matches_as_transformers_does(tmp_path: Path, texts: tuple[Tensor, Tensor]) -> None:
    ours, (tokens, keep), image = _random("blip", BLIP_SIZES), texts, torch.randn(3, 3, 64, 64)
    assert isinstance(ours, BLIP)
    export_directory(tmp_path / "out", "transformers-retrieval", "blip", args=BLIP_SIZES, weights=ours.state_dict())
    theirs = transformers.BlipForImageTextRetrieval.from_pretrained(tmp_path / "out").eval()
    given = {"pixel_values": image, "input_ids": tokens, "attention_mask": keep.long()}
    expected = theirs(**given, use_itm_head=True).itm_score
    assert _gap(ours.match(ours.vision_encoder(image), tokens, keep), expected, "blip matches") <= TOLERANCE
    found = ours(image, tokens, keep)
    products = found["image_embeds"] @ found["text_embeds"].T
    assert _gap(products, theirs(**given, use_itm_head=False).itm_score, "blip's embeddings") <= TOLERANCE


def test_blip_takes_the_weights_of_both() -> None:
    """What reads and what writes share their parts, so either directory alone lacks something of ours."""
    state = _random("blip", BLIP_SIZES).state_dict()
    found = {}
    for layout in ("transformers/blip", "transformers-retrieval/blip"):
        found |= import_weights(layout, export_weights(layout, state))
    assert found.keys() == state.keys() - {"logit_scale"}
    assert all(torch.equal(found[name], state[name]) for name in found)


@torch.inference_mode()
def test_the_qformer_is_transformers(texts: tuple[Tensor, Tensor]) -> None:
    """Queries alone, a text alone and both together, on an image encoded by whatever."""
    ours, (tokens, keep) = _random("blip2_qformer", QFORMER), texts
    assert isinstance(ours, BLIP2QFormer)
    theirs = _their_qformer()
    named = export_weights("transformers/blip2_qformer", ours.state_dict())
    report = theirs.load_state_dict(named, strict=False)
    assert not report.unexpected_keys
    assert all(name.startswith("vision_model.") for name in report.missing_keys)
    states = torch.randn(3, 17, 256)
    queries = theirs.query_tokens.expand(3, -1, -1)
    expected = theirs.qformer(query_embeds=queries, encoder_hidden_states=states).last_hidden_state
    assert _gap(ours.qformer(states), expected, "queries") <= TOLERANCE
    words = theirs.embeddings(input_ids=tokens)
    expected = theirs.qformer(query_embeds=words, query_length=0, attention_mask=keep.long()).last_hidden_state
    assert _gap(ours.qformer(None, tokens, keep)[keep], expected[keep], "a text") <= TOLERANCE
    both = theirs.embeddings(input_ids=tokens, query_embeds=queries)
    mask = torch.cat([torch.ones(3, queries.shape[1], dtype=torch.long), keep.long()], dim=1)
    expected = theirs.itm_head(
        theirs.qformer(
            query_embeds=both, query_length=queries.shape[1], attention_mask=mask, encoder_hidden_states=states
        ).last_hidden_state[:, : queries.shape[1]]
    ).mean(1)
    assert _gap(ours.match(states, tokens, keep), expected, "both") <= TOLERANCE
    state = {name: value for name, value in ours.state_dict().items() if name.startswith("qformer.")}
    back = import_weights("transformers/blip2_qformer", theirs.state_dict())
    assert all(torch.equal(back[name], value) for name, value in state.items())


def _their_qformer() -> Any:
    qformer = {
        "num_hidden_layers": 6,
        "encoder_hidden_size": 256,
        "vocab_size": 3000,
        "max_position_embeddings": 40,
        "use_qformer_text_input": True,
    }
    vision = {"hidden_size": 256, "num_hidden_layers": 1, "num_attention_heads": 8, "intermediate_size": 64}
    text = {"model_type": "opt", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 64}
    config = transformers.Blip2Config(
        vision_config=vision, qformer_config=qformer, text_config=text, num_query_tokens=32, image_text_hidden_size=256
    )
    return transformers.Blip2ForImageTextRetrieval(config).eval()


def _random(name: str, args: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    return _shaken(build_model({"name": name, "args": args}).eval())


def _shaken(model: Any) -> Any:
    """Weights that leave no part without effect."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return model


def _llava_gap(ours: Any, theirs: Any, image_token: int, texts: tuple[Tensor, Tensor]) -> float:
    words, kept = texts
    tokens = torch.cat([words[:, :1], torch.full((3, PATCHES), IMAGE_ID), words[:, 1:]], dim=1)
    keep = torch.cat([kept[:, :1].expand(-1, PATCHES + 1), kept[:, 1:]], dim=1)
    image = torch.randn(3, 3, 56, 56)
    ids = torch.where(tokens == IMAGE_ID, image_token, tokens)
    expected = theirs(input_ids=ids, pixel_values=image, attention_mask=keep.long()).logits
    found = ours.assistant(ours.vision_encoder(image), tokens, keep)
    one = _gap(found[keep], expected[keep][:, : found.shape[-1]], "llava")
    # Two images to the first text, and one to each other.
    first, places = tokens[:1], torch.full((1, PATCHES), IMAGE_ID)
    tokens = torch.cat([first[:, :-2], places, first[:, -2:]], dim=1)
    ids = torch.where(tokens == IMAGE_ID, image_token, tokens)
    expected = theirs(input_ids=ids, pixel_values=image[:2]).logits
    # One more, for which there is no place, isn't seen.
    found = ours.assistant(ours.vision_encoder(image[None]), tokens, torch.ones_like(tokens, dtype=torch.bool))
    return max(one, _gap(found, expected[..., : found.shape[-1]], "llava, two images"))


def _gap(found: Tensor, expected: Tensor, what: str) -> float:
    """The largest difference as a share of the largest value."""
    gap = float((found - expected).abs().max() / expected.abs().max())
    print(f"{what}: {gap:.1e}")
    return gap
