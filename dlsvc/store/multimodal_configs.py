"""Configurations of models of images and texts in transformers' words, out and in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dlsvc.store import language_configs
from dlsvc.store.widths import Args, our_width, require, require_all, transformers_width


def _export_llava(args: Args, classes: Sequence[str]) -> dict[str, Any]:
    language = language_configs.EXPORTS["transformers/llama"](args["language"], ())
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "dtype": "float32",
        # The last id, which `with_image_token` adds.
        "image_token_index": args["language"]["vocab_size"] - 1,
        "image_seq_length": (args["vision"]["image_size"] // args["vision"]["patch_size"]) ** 2,
        "projector_hidden_act": "gelu",
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "tie_word_embeddings": args["language"]["tied"],
        "vision_config": {
            "model_type": "clip_vision_model",
            "hidden_act": "quick_gelu" if args["quick_gelu"] else "gelu",
            "layer_norm_eps": args["vision_norm_eps"],
            **_image(args["vision"]),
        },
        "text_config": {name: value for name, value in language.items() if name not in ("architectures", "dtype")},
    }


def _import_llava(config: Args) -> dict[str, Any]:
    vision, text = dict(config.get("vision_config") or {}), dict(config.get("text_config") or {})
    require_all(config, _LLAVA_ONLY)
    require(vision, "model_type", ("clip_vision_model",))
    require(vision, "hidden_act", ("gelu", "quick_gelu"))
    require(text, "model_type", ("llama",))
    return {
        "vision": {
            "image_size": vision.get("image_size", 224),
            "patch_size": vision.get("patch_size", 32),
            "in_channels": vision.get("num_channels", 3),
            **our_width(vision, width=768, layers=12, heads=12, hidden=3072),
        },
        "language": language_configs.IMPORTS["transformers/llama"](text),
        "quick_gelu": vision.get("hidden_act", "quick_gelu") == "quick_gelu",
        "vision_norm_eps": vision.get("layer_norm_eps", 1e-5),
    }


# What else LLaVA may be there and is not here.
_LLAVA_ONLY: dict[str, tuple[Any, ...]] = {
    "projector_hidden_act": ("gelu",),
    "multimodal_projector_bias": (True,),
    "vision_feature_layer": (-2,),
    "vision_feature_select_strategy": ("default",),
}


def with_image_token(args: dict[str, Any], weights: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The vocabulary with one id more, which stands for a patch of an image there; what it would be written with is
    that of padding, which no text has learnt to write.
    """
    language = args["language"]
    size, grown = language["vocab_size"], dict(weights)
    for name in ("assistant.language.tokens.weight", "assistant.language.head.weight"):
        if name in grown:
            grown[name] = torch.cat([grown[name], grown[name][:1]])
    return {**args, "language": {**language, "vocab_size": size + 1}}, grown


def _export_blip(architecture: str) -> Callable[[Args, Sequence[str]], dict[str, Any]]:
    def export(args: Args, classes: Sequence[str]) -> dict[str, Any]:
        vision, text = args["vision"], args["text"]
        return {
            "architectures": [architecture],
            "model_type": "blip",
            "dtype": "float32",
            "image_text_hidden_size": args["embed_dim"],
            "projection_dim": args["embed_dim"],
            "vision_config": {
                "model_type": "blip_vision_model",
                "hidden_act": "gelu",
                "layer_norm_eps": vision["norm_eps"],
                **_image(vision),
            },
            "text_config": {
                "model_type": "blip_text_model",
                "vocab_size": text["vocab_size"],
                "max_position_embeddings": text["max_seq_len"],
                "encoder_hidden_size": vision["d_model"],
                "layer_norm_eps": text["norm_eps"],
                "hidden_act": "gelu",
                **transformers_width(text),
            },
        }

    return export


def _image(vision: Args) -> dict[str, Any]:
    return {
        "image_size": vision["image_size"],
        "patch_size": vision["patch_size"],
        "num_channels": vision["in_channels"],
        **transformers_width(vision),
    }


EXPORTS: dict[str, Callable[[Args, Sequence[str]], dict[str, Any]]] = {
    "transformers/llava": _export_llava,
    "transformers/blip": _export_blip("BlipForConditionalGeneration"),
    "transformers-retrieval/blip": _export_blip("BlipForImageTextRetrieval"),
}
IMPORTS: dict[str, Callable[[Args], dict[str, Any]]] = {"transformers/llava": _import_llava}
