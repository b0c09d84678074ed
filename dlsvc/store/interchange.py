"""Model directories of other libraries: weights in safetensors, and a config.json in their words."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from dlsvc.data.vocabulary import Special
from dlsvc.errors import DataError, NotFound, Refused, UsageError
from dlsvc.registry import REQUIRED, Argument, resolve
from dlsvc.store import language_configs, multimodal_configs, signal_configs
from dlsvc.store.foreign_files import CONFIG, blaming, read_object, read_tensors
from dlsvc.store.keymaps import Tensors, export_weights, import_weights
from dlsvc.store.widths import Args, our_vit, our_width, require, transformers_vit, transformers_width

_WEIGHTS = "model.safetensors"
# The ids that vocabularies have which are fitted here.
_FITTED = Special()

# transformers reads this end-of-text id as "the largest id in the text", for the sake of old files.
_LEGACY_EOS_ID = 2
_TIMM_NORM_EPS = 1e-6
_TIMM_ARGS = ("img_size", "patch_size", "in_chans", "embed_dim", "depth", "num_heads", "mlp_ratio")
# What a ViT may be here and not there.
_VIT_ONLY = {"embedding_norm": False, "patch_bias": True, "activation": "gelu", "similarity": "scaled-dot"}


@dataclass(frozen=True)
class Imported:
    """A model from elsewhere: its name here, its arguments, its weights under our names, its classes."""

    model: str
    args: dict[str, Any]
    weights: Tensors
    classes: tuple[str, ...]


def export_directory(
    target: Path,
    library: str,
    model: str,
    *,
    args: Args,
    weights: Mapping[str, Tensor],
    classes: Sequence[str] = (),
    special: Special = _FITTED,
) -> None:
    """Write a model so that the library loads it: `from_pretrained(target)`, or timm's `local-dir:target`. `special`
    are the ids of its vocabulary.
    """
    layout = f"{library}/{model}"
    if layout not in _EXPORTS:
        known = sorted(name.split("/")[0] for name in _EXPORTS if name.endswith(f"/{model}"))
        raise UsageError(f"{model} has no {library} directory; it can be exported to: {', '.join(known) or 'none'}")
    whole = complete_arguments(model, args)
    if layout == "transformers/clip":
        whole, weights = _with_readable_eos(whole, weights)
    if layout == "transformers/llava":
        whole, weights = multimodal_configs.with_image_token(whole, weights)
    config = language_configs.with_ends(_EXPORTS[layout](whole, classes), special)
    tensors = export_weights(layout, weights)
    if target.exists() and any(target.iterdir()):
        raise Refused(f"{target} is not empty; export to a new directory")
    target.mkdir(parents=True, exist_ok=True)
    save_file(tensors, target / _WEIGHTS, metadata={"format": "pt"})
    (target / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def import_directory(source: Path) -> Imported:
    """Read a model directory of transformers or timm. Raises DataError saying what doesn't fit; nothing is
    unpickled.
    """
    if not (source / CONFIG).is_file():
        raise NotFound(f"{source} holds no model: {CONFIG} is missing")
    config = read_object(source / CONFIG)
    layout = layout_of(config)
    tensors = read_tensors(source)
    if not tensors:
        raise DataError(
            f"{source} holds no .safetensors file; other formats would have to be unpickled, which is unsafe"
        )
    weights = import_weights(layout, tensors)
    with blaming(source / CONFIG):
        args = _IMPORTS[layout](config)
        classes = _class_names(config) if args.get("num_classes") else ()
    if layout.endswith("/vit") and "head.weight" not in weights:
        args["num_classes"], classes = 0, ()
    if layout == "transformers/bert" and "head.bias" not in weights:
        args["head"] = False
    return Imported(layout.split("/")[1], args, weights, classes)


def layout_of(config: Args) -> str:
    """Which layout a config.json belongs to."""
    if str(config.get("architecture", "")).startswith("vit_"):
        return "timm/vit"
    kind = str(config.get("model_type") or config.get("architecture"))
    layout = f"transformers/{signal_configs.TYPES.get(kind, kind)}"
    if layout not in _IMPORTS:
        raise DataError(f"models of type {kind!r} can't be imported; known: {', '.join(sorted(_IMPORTS))}")
    return layout


def complete_arguments(model: str, args: Args) -> dict[str, Any]:
    """A model's arguments with every default filled in, also within parts."""
    entry = resolve("model", model)
    found: dict[str, Any] = {}
    for argument in entry.arguments:
        value = args.get(argument.name, argument.default)
        part = entry.parts.get(argument.annotation)
        found[argument.name] = {**_defaults(part), **value} if part else value
    return found


def _defaults(part: tuple[Argument, ...]) -> dict[str, Any]:
    return {argument.name: argument.default for argument in part if argument.default is not REQUIRED}


def _class_names(config: Args) -> tuple[str, ...]:
    labels = config.get("id2label") or dict(enumerate(config.get("label_names", ())))
    return tuple(labels[key] for key in sorted(labels, key=int))


def _export_transformers_vit(args: Args, classes: Sequence[str]) -> dict[str, Any]:
    _refuse_variants(args)
    return {
        "architectures": ["ViTForImageClassification" if args["num_classes"] else "ViTModel"],
        "model_type": "vit",
        "image_size": args["image_size"],
        "patch_size": args["patch_size"],
        "num_channels": args["in_channels"],
        **transformers_vit(args, classes),
    }


def _import_transformers_vit(config: Args) -> dict[str, Any]:
    return {
        "image_size": config.get("image_size", 224),
        "patch_size": config.get("patch_size", 16),
        "in_channels": config.get("num_channels", 3),
        **our_vit(config, norm_eps=1e-12),
    }


def _export_timm_vit(args: Args, classes: Sequence[str]) -> dict[str, Any]:
    _refuse_variants(args)
    if args["norm_eps"] != _TIMM_NORM_EPS:
        raise Refused(f"timm's ViT has norm_eps {_TIMM_NORM_EPS}, this model has {args['norm_eps']}")
    size = (args["in_channels"], args["image_size"], args["image_size"])
    return {
        "architecture": "vit_base_patch16_224",
        "num_classes": args["num_classes"],
        "num_features": args["d_model"],
        "global_pool": "token",
        "model_args": {
            "img_size": args["image_size"],
            "patch_size": args["patch_size"],
            "in_chans": args["in_channels"],
            "embed_dim": args["d_model"],
            "depth": args["num_layers"],
            "num_heads": args["num_heads"],
            "mlp_ratio": args["mlp_ratio"],
        },
        "label_names": list(classes),
        "pretrained_cfg": {"input_size": size, "first_conv": "patch_embed.proj", "classifier": "head"},
    }


def _import_timm_vit(config: Args) -> dict[str, Any]:
    given = config.get("model_args")
    if given is None:
        raise DataError(f"config.json of {config.get('architecture')!r} has no model_args; export it again with them")
    require(config, "global_pool", ("token",))
    # Rates of dropout are of training.
    if unknown := sorted(name for name in given.keys() - _TIMM_ARGS if not name.endswith("_rate")):
        raise DataError(
            f"config.json has model_args {', '.join(unknown)}; only {', '.join(_TIMM_ARGS)} can be imported"
        )
    return {
        "image_size": given.get("img_size", 224),
        "patch_size": given.get("patch_size", 16),
        "in_channels": given.get("in_chans", 3),
        "d_model": given.get("embed_dim", 768),
        "num_layers": given.get("depth", 12),
        "num_heads": given.get("num_heads", 12),
        "mlp_ratio": given.get("mlp_ratio", 4.0),
        "num_classes": config["num_classes"],
    }


def _export_transformers_clip(args: Args, classes: Sequence[str]) -> dict[str, Any]:
    vision, text, width = args["vision"], args["text"], args["embed_dim"]
    shared = {
        "hidden_act": "quick_gelu" if args["quick_gelu"] else "gelu",
        "layer_norm_eps": args["norm_eps"],
        "attention_dropout": args["dropout"],
        "projection_dim": width,
    }
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "dtype": "float32",
        "projection_dim": width,
        "vision_config": {
            "model_type": "clip_vision_model",
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "num_channels": vision["in_channels"],
            **transformers_width(vision),
            **shared,
        },
        "text_config": {
            "model_type": "clip_text_model",
            "vocab_size": text["vocab_size"],
            "max_position_embeddings": text["max_seq_len"],
            **transformers_width(text),
            **shared,
            "eos_token_id": text["eos_id"],
        },
    }


def _import_transformers_clip(config: Args) -> dict[str, Any]:
    vision, text = dict(config.get("vision_config") or {}), dict(config.get("text_config") or {})
    require(vision, "hidden_act", ("gelu", "quick_gelu"))
    # Both towers are of one kind here.
    for name, default in (("hidden_act", "quick_gelu"), ("layer_norm_eps", 1e-5)):
        require({name: default, **text}, name, (vision.get(name, default),))
    vocab_size = text.get("vocab_size", 49408)
    eos_id = text.get("eos_token_id", 49407)
    return {
        "embed_dim": config.get("projection_dim", 512),
        "vision": {
            "image_size": vision.get("image_size", 224),
            "patch_size": vision.get("patch_size", 32),
            "in_channels": vision.get("num_channels", 3),
            **our_width(vision, width=768, layers=12, heads=12, hidden=3072),
        },
        "text": {
            "vocab_size": vocab_size,
            "max_seq_len": text.get("max_position_embeddings", 77),
            **our_width(text, width=512, layers=12, heads=8, hidden=2048),
            "eos_id": vocab_size - 1 if eos_id == _LEGACY_EOS_ID else eos_id,
        },
        "quick_gelu": vision.get("hidden_act", "quick_gelu") == "quick_gelu",
        "dropout": vision.get("attention_dropout", 0.0),
        "norm_eps": vision.get("layer_norm_eps", 1e-5),
    }


def _with_readable_eos(args: dict[str, Any], weights: Mapping[str, Tensor]) -> tuple[dict[str, Any], Tensors]:
    """A text tower whose end-of-text id is 2 gets it again as one more id at the vocabulary's end, since transformers
    can't read out at id 2. Exported texts must end with that one."""
    text = args["text"]
    if text["eos_id"] != _LEGACY_EOS_ID:
        return args, dict(weights)
    table = weights["text_encoder.tokens.weight"]
    grown = torch.cat([table, table[_LEGACY_EOS_ID : _LEGACY_EOS_ID + 1]])
    size = text["vocab_size"]
    return (
        {**args, "text": {**text, "vocab_size": size + 1, "eos_id": size}},
        {**weights, "text_encoder.tokens.weight": grown},
    )


def _refuse_variants(args: Args) -> None:
    for name, own in _VIT_ONLY.items():
        if args[name] != own:
            raise Refused(f"a ViT with {name} {args[name]!r} has no directory of its own; only {own!r} has one")


_EXPORTS: dict[str, Callable[[Args, Sequence[str]], dict[str, Any]]] = {
    "transformers/vit": _export_transformers_vit,
    "transformers/clip": _export_transformers_clip,
    "timm/vit": _export_timm_vit,
    **language_configs.EXPORTS,
    **multimodal_configs.EXPORTS,
    **signal_configs.EXPORTS,
}
_IMPORTS: dict[str, Callable[[Args], dict[str, Any]]] = {
    "transformers/vit": _import_transformers_vit,
    "transformers/clip": _import_transformers_clip,
    "timm/vit": _import_timm_vit,
    **language_configs.IMPORTS,
    **multimodal_configs.IMPORTS,
    **signal_configs.IMPORTS,
}
