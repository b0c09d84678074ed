"""Weights to other layouts and back, and the errors for what doesn't fit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dlsvc.errors import DataError, NotFound, Refused, UsageError
from dlsvc.registry import resolve
from dlsvc.store.bundle import build_model
from dlsvc.store.interchange import complete_arguments, export_directory, import_directory
from dlsvc.store.keymaps import export_weights, import_weights
from dlsvc.store.layouts import LAYOUTS

every_layout = pytest.mark.parametrize("layout", sorted(LAYOUTS))
_DIRECTORIES = [
    "timm/vit",
    "transformers/audio_transformer",
    "transformers/bert",
    "transformers/clip",
    "transformers/gpt2",
    "transformers/llama",
    "transformers/series_transformer",
    "transformers/video_transformer",
    "transformers/vit",
]
every_directory = pytest.mark.parametrize("layout", _DIRECTORIES)
# Layouts that number what the tiny model has too few of.
_SIZES: dict[str, dict[str, Any]] = {
    "timm/resnet34": {"layers": (1, 2, 1, 1)},
    "efficientnet-pytorch/efficientnet": {"depth_factor": 1.0},
}
# Layouts of a part of a model: without its text encoder.
_PARTS = {"diffusers/denoiser": ("latent_diffusion", "denoiser")}


def _state(layout: str, **changes: Any) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    name, part = _PARTS.get(layout, (layout.split("/")[1], ""))
    args = {**resolve("model", name).options["tiny"], **_SIZES.get(layout, {}), **changes}
    torch.manual_seed(0)
    state = build_model({"name": name, "args": args}).get_submodule(part).state_dict()
    outside = LAYOUTS[layout].left_out
    kept = {key: value for key, value in state.items() if not any(re.fullmatch(one, key) for one in outside)}
    return args, {key: value for key, value in kept.items() if not (part and key.startswith("text."))}


@every_layout
def test_map_load_map_gives_the_same_bytes(layout: str) -> None:
    _, state = _state(layout)
    theirs = export_weights(layout, state)
    ours = import_weights(layout, theirs)
    assert sorted(ours) == sorted(state)
    assert all(torch.equal(ours[name], state[name]) and ours[name].shape == state[name].shape for name in state)
    again = export_weights(layout, ours)
    assert {name: value.numpy().tobytes() for name, value in again.items()} == {
        name: value.numpy().tobytes() for name, value in theirs.items()
    }


@every_layout
def test_missing_and_left_over_names_are_listed(layout: str) -> None:
    _, state = _state(layout)
    theirs = export_weights(layout, state)
    first = (
        "norm1.weight",
        "LayerNorm.weight",
        "ln_1.weight",
        "input_layernorm.weight",
        "layernorm_before.weight",
        "bn1.weight",
        "pre_logits.fc1.weight",
        "_bn1.weight",
        "layer_norm1.weight",
        "norm_sublayer1.batchnorm.weight",
    )
    gone = next(name for name in theirs if name.endswith(first))
    spoilt = {name: value for name, value in theirs.items() if name != gone} | {"stray.weight": torch.zeros(1)}
    with pytest.raises(DataError, match=f"it lacks: {re.escape(gone)}.*nothing takes: stray.weight"):
        import_weights(layout, spoilt)
    with pytest.raises(DataError, match="nothing takes: stray"):
        export_weights(layout, {**state, "stray": torch.zeros(1)})
    some = ("logit_scale", "norm.weight", "norm.bias", "head.weight", "unet.norm.bias", "decoder.norm.bias")
    some += ("vision_encoder.norm.weight", "qformer.norm.weight")
    needed = next(name for name in some if name in state)
    with pytest.raises(DataError, match=f"it lacks: {re.escape(needed)}"):
        export_weights(layout, {name: value for name, value in state.items() if name != needed})


def test_a_gap_in_the_layers_is_an_error() -> None:
    _, state = _state("timm/vit")
    theirs = export_weights("timm/vit", state)
    with pytest.raises(DataError, match="it lacks: blocks.0"):
        import_weights("timm/vit", {name: value for name, value in theirs.items() if "blocks.0." not in name})


def test_lite0_is_numbered_through_from_stem_to_head() -> None:
    _, state = _state("efficientnet-pytorch/efficientnet", family="lite")
    theirs = export_weights("efficientnet-pytorch/efficientnet", state)
    assert torch.equal(theirs["_blocks.0._bn1.weight"], state["stages.0.0.depthwise.norm.weight"])
    assert torch.equal(theirs["_blocks.15._project_conv.weight"], state["stages.6.0.project.weight"])
    assert not [name for name in theirs if name.startswith("_blocks.0._expand") or "_se_" in name]


def test_tensors_of_other_shapes_are_named() -> None:
    _, state = _state("timm/vit")
    theirs = export_weights("timm/vit", state)
    for name, shape in (("cls_token", (2, 1, 16)), ("blocks.0.attn.qkv.bias", ()), ("blocks.0.attn.qkv.bias", (4,))):
        with pytest.raises(DataError, match=rf"the file's {re.escape(name)} has shape {re.escape(str(shape))}"):
            import_weights("timm/vit", {**theirs, name: torch.zeros(shape)})


def test_timm_fuses_query_key_and_value_in_this_order() -> None:
    _, state = _state("timm/vit")
    qkv = export_weights("timm/vit", state)["blocks.1.attn.qkv.weight"]
    assert qkv.shape == (48, 16)
    assert torch.equal(qkv[16:32], state["blocks.1.attention.key.weight"])


def test_a_body_without_its_prefix_and_with_a_pooler_is_read() -> None:
    _, state = _state("transformers/vit", num_classes=0)
    theirs = export_weights("transformers/vit", state)
    bare = {name.removeprefix("vit."): value for name, value in theirs.items()} | {"pooler.dense.bias": torch.ones(16)}
    assert sorted(import_weights("transformers/vit", bare)) == sorted(state)


def _of_bert_base_uncased(name: str) -> str:
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


def _of_llava_1_5_7b_hf(name: str) -> str:
    return name.replace("vision_tower.", "vision_tower.vision_model.")


@pytest.mark.parametrize(
    ("layout", "older", "names", "constants"),
    [
        (
            "transformers/bert",
            _of_bert_base_uncased,
            ("bert.embeddings.LayerNorm.gamma", "cls.predictions.transform.LayerNorm.beta"),
            ("bert.embeddings.position_ids",),
        ),
        (
            "transformers/llava",
            _of_llava_1_5_7b_hf,
            ("vision_tower.vision_model.pre_layrnorm.bias", "language_model.model.embed_tokens.weight"),
            (
                "vision_tower.vision_model.embeddings.position_ids",
                "language_model.model.layers.0.self_attn.rotary_emb.inv_freq",
            ),
        ),
        (
            "transformers/llama",
            str,
            ("model.embed_tokens.weight", "lm_head.weight"),
            ("model.layers.0.self_attn.rotary_emb.inv_freq",),
        ),
    ],
)
def test_names_of_older_files_are_read(
    layout: str, older: Callable[[str], str], names: tuple[str, ...], constants: tuple[str, ...]
) -> None:
    """Those that bert-base-uncased, llava-1.5-7b-hf and Llama 2 were published with."""
    _, state = _state(layout)
    theirs = {older(name): value for name, value in export_weights(layout, state).items()}
    assert set(names) <= theirs.keys()
    ours = import_weights(layout, {**theirs, **dict.fromkeys(constants, torch.ones(4))})
    assert ours.keys() == state.keys()
    assert all(torch.equal(ours[name], state[name]) for name in state)


@every_directory
def test_directory_round_trip_builds_the_same_model(layout: str, tmp_path: Path) -> None:
    library, name = layout.split("/")
    args, state = _state(layout)
    if name == "clip":
        args = {**args, "text": {**args["text"], "eos_id": 31}}
    classes = ("a", "b", "c") if "num_classes" in args else ()
    export_directory(tmp_path / "out", library, name, args=args, weights=state, classes=classes)
    found = import_directory(tmp_path / "out")
    assert found.model == name
    assert found.classes == classes
    defaults = complete_arguments(name, args)
    assert complete_arguments(name, found.args) == defaults
    build_model({"name": name, "args": found.args}).load_state_dict(found.weights, strict=True)
    assert all(torch.equal(found.weights[key], state[key]) for key in state)


def test_an_end_of_text_id_of_2_is_exported_as_a_new_last_id(tmp_path: Path) -> None:
    args, state = _state("transformers/clip")
    export_directory(tmp_path / "out", "transformers", "clip", args=args, weights=state)
    found = import_directory(tmp_path / "out")
    assert (found.args["text"]["vocab_size"], found.args["text"]["eos_id"]) == (33, 32)
    table = found.weights["text_encoder.tokens.weight"]
    assert torch.equal(table[32], table[2])


@pytest.mark.parametrize(
    ("layout", "says", "name"),
    [
        ("transformers/bert", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ("transformers/bert", {"is_decoder": True}, "is_decoder"),
        ("transformers/bert", {"tie_word_embeddings": False}, "tie_word_embeddings"),
        ("transformers/gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ("transformers/gpt2", {"scale_attn_weights": False}, "scale_attn_weights"),
        ("transformers/gpt2", {"tie_word_embeddings": False}, "tie_word_embeddings"),
        ("transformers/llama", {"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "rope_type 'llama3'"),
        (
            "transformers/llama",
            {"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 4.0}},
            "rope_type 'linear'",
        ),
        ("transformers/llama", {"attention_bias": True}, "attention_bias"),
        ("transformers/llama", {"mlp_bias": True}, "mlp_bias"),
        ("transformers/llama", {"head_dim": 8}, "head_dim 8"),
        ("transformers/llava", {"multimodal_projector_bias": False}, "multimodal_projector_bias"),
        ("transformers/llava", {"text_config": {"model_type": "mistral"}}, "model_type 'mistral'"),
        (
            "transformers/llava",
            {"vision_config": {"model_type": "siglip_vision_model"}},
            "model_type 'siglip_vision_model'",
        ),
        ("transformers/clip", {"text_config": {"hidden_act": "gelu"}}, "hidden_act 'gelu'"),
        ("transformers/clip", {"text_config": {"layer_norm_eps": 1e-6}}, "layer_norm_eps"),
        ("transformers/audio_transformer", {"time_stride": 5}, "time_stride 5"),
        ("timm/vit", {"global_pool": "avg"}, "global_pool 'avg'"),
        ("timm/vit", {"model_args": {"qk_norm": True}}, "model_args qk_norm"),
    ],
)
def test_what_would_compute_something_else_is_not_imported(
    layout: str, says: dict[str, Any], name: str, tmp_path: Path
) -> None:
    _export_saying(tmp_path / "out", layout, says)
    with pytest.raises(DataError, match=rf"config\.json (says|has) {name}"):
        import_directory(tmp_path / "out")


def _export_saying(folder: Path, layout: str, says: dict[str, Any]) -> None:
    """A tiny model's directory whose config.json also says so much."""
    args, state = _state(layout)
    export_directory(folder, *layout.split("/"), args=args, weights=state)
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **says}))


@pytest.mark.parametrize("library", ["timm", "transformers"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("embedding_norm", True), ("patch_bias", False), ("activation", "quick_gelu"), ("similarity", "general")],
)
def test_a_vit_that_computes_something_else_is_not_exported(
    library: str, name: str, value: Any, tmp_path: Path
) -> None:
    args, state = _state(f"{library}/vit", **{name: value})
    with pytest.raises(Refused, match=f"a ViT with {name} {value!r} has no directory of its own"):
        export_directory(tmp_path / "new", library, "vit", args=args, weights=state)


def test_unusable_sources_and_targets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="config.json is missing"):
        import_directory(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bloom"}))
    with pytest.raises(DataError, match="'bloom' can't be imported"):
        import_directory(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(DataError, match="no .safetensors file"):
        import_directory(tmp_path)
    args, state = _state("timm/vit")
    with pytest.raises(Refused, match="is not empty"):
        export_directory(tmp_path, "timm", "vit", args=args, weights=state)
    with pytest.raises(Refused, match="norm_eps"):
        export_directory(tmp_path / "new", "timm", "vit", args={**args, "norm_eps": 1e-5}, weights=state)
    args, state = _state("timm/resnet34")
    with pytest.raises(UsageError, match="resnet34 has no timm directory; it can be exported to: none"):
        export_directory(tmp_path / "new", "timm", "resnet34", args=args, weights=state)
    args, state = _state("timm/vit")
    with pytest.raises(UsageError, match="can be exported to: timm, transformers"):
        export_directory(tmp_path / "new", "keras", "vit", args=args, weights=state)
    with pytest.raises(UsageError, match="did you mean"):
        import_weights("timm/vits", {})
