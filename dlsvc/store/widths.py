"""Sizes and classes in the words of transformers' configurations, and in ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dlsvc.errors import DataError

Args = Mapping[str, Any]


def transformers_width(args: Args) -> dict[str, Any]:
    return {
        "hidden_size": args["d_model"],
        "num_hidden_layers": args["num_layers"],
        "num_attention_heads": args["num_heads"],
        "intermediate_size": round(args["d_model"] * args["mlp_ratio"]),
    }


def our_width(config: Args, *, width: int, layers: int, heads: int, hidden: int) -> dict[str, Any]:
    """Our names of a stack's sizes; theirs default to these."""
    d_model = config.get("hidden_size", width)
    return {
        "d_model": d_model,
        "num_layers": config.get("num_hidden_layers", layers),
        "num_heads": config.get("num_attention_heads", heads),
        "mlp_ratio": config.get("intermediate_size", hidden) / d_model,
    }


def transformers_labels(classes: Sequence[str], num_classes: int) -> dict[str, Any]:
    names = list(classes) or [f"LABEL_{place}" for place in range(num_classes)]
    return {
        "id2label": {str(place): name for place, name in enumerate(names)},
        "label2id": {name: place for place, name in enumerate(names)},
    }


def transformers_vit(args: Args, classes: Sequence[str]) -> dict[str, Any]:
    """What a ViT says, and what grew from it; without a head it has no classes."""
    return {
        "dtype": "float32",
        **transformers_width(args),
        "layer_norm_eps": args["norm_eps"],
        "hidden_act": "gelu",
        "hidden_dropout_prob": args["dropout"],
        "attention_probs_dropout_prob": args["dropout"],
        "qkv_bias": True,
        **(transformers_labels(classes, args["num_classes"]) if args["num_classes"] else {}),
    }


def our_vit(config: Args, *, norm_eps: float) -> dict[str, Any]:
    """Our names of the same. Raises DataError for what no ViT here has."""
    require(config, "hidden_act", ("gelu",))
    require(config, "qkv_bias", (True,))
    return {
        **our_width(config, width=768, layers=12, heads=12, hidden=3072),
        "dropout": config.get("hidden_dropout_prob", 0.0),
        "num_classes": len(config.get("id2label") or (0, 1)),
        "norm_eps": config.get("layer_norm_eps", norm_eps),
    }


def require_all(config: Args, allowed: Mapping[str, tuple[Any, ...]]) -> None:
    """Raises DataError for the first field that isn't one of what it may be; where it is missing, it is the last."""
    for name, values in allowed.items():
        require(config, name, values)


def require(config: Args, name: str, allowed: tuple[Any, ...]) -> None:
    value = config.get(name, allowed[-1])
    if value not in allowed:
        raise DataError(f"config.json says {name} {value!r}; only {', '.join(map(repr, allowed))} can be imported")
