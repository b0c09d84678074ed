"""Configurations of models of sounds, films and series in transformers' words, out and in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dlsvc.errors import Refused
from dlsvc.store.widths import Args, our_vit, require, require_all, transformers_labels, transformers_vit


def _export_audio(args: Args, classes: Sequence[str]) -> dict[str, Any]:
    return {
        "architectures": ["ASTForAudioClassification"],
        "model_type": "audio-spectrogram-transformer",
        "num_mel_bins": args["num_bins"],
        "max_length": args["num_steps"],
        "patch_size": args["patch_size"],
        "frequency_stride": args["stride"],
        "time_stride": args["stride"],
        **transformers_vit(args, classes),
    }


def _import_audio(config: Args) -> dict[str, Any]:
    stride = config.get("frequency_stride", 10)
    require({"time_stride": 10, **config}, "time_stride", (stride,))
    return {
        "num_bins": config.get("num_mel_bins", 128),
        "num_steps": config.get("max_length", 1024),
        "patch_size": config.get("patch_size", 16),
        "stride": stride,
        **our_vit(config, norm_eps=1e-12),
    }


def _export_video(args: Args, classes: Sequence[str]) -> dict[str, Any]:
    return {
        "architectures": ["TimesformerForVideoClassification"],
        "model_type": "timesformer",
        "attention_type": "divided_space_time",
        "num_frames": args["num_frames"],
        "image_size": args["image_size"],
        "patch_size": args["patch_size"],
        "num_channels": args["in_channels"],
        **transformers_vit(args, classes),
    }


def _import_video(config: Args) -> dict[str, Any]:
    require(config, "attention_type", ("divided_space_time",))
    return {
        "num_frames": config.get("num_frames", 8),
        "image_size": config.get("image_size", 224),
        "patch_size": config.get("patch_size", 16),
        "in_channels": config.get("num_channels", 3),
        **our_vit(config, norm_eps=1e-6),
    }


def _export_series(args: Args, classes: Sequence[str]) -> dict[str, Any]:
    if args["norm"] != "batch":
        raise Refused("a series_transformer with norm: layer has no transformers directory; norm: batch has one")
    return {
        "architectures": ["PatchTSTForClassification"],
        "model_type": "patchtst",
        "dtype": "float32",
        "num_input_channels": args["in_channels"],
        "context_length": args["num_steps"],
        "patch_length": args["patch_len"],
        "patch_stride": args["stride"],
        "d_model": args["d_model"],
        "num_hidden_layers": args["num_layers"],
        "num_attention_heads": args["num_heads"],
        "ffn_dim": args["hidden_dim"],
        "scaling": None if args["scaling"] == "none" else args["scaling"],
        "norm_type": "batchnorm",
        "norm_eps": args["norm_eps"],
        **{f"{place}_dropout": args["dropout"] for place in ("attention", "positional", "path", "ff", "head")},
        # Learned, as its authors have it.
        "positional_encoding_type": "random",
        "pre_norm": True,
        "use_cls_token": False,
        "pooling_type": "mean",
        "num_targets": args["num_classes"],
        **transformers_labels(classes, args["num_classes"]),
    }


def _import_series(config: Args) -> dict[str, Any]:
    require_all(config, _SERIES_ONLY)
    scaling = config.get("scaling", "std")
    return {
        "in_channels": config.get("num_input_channels", 1),
        "num_steps": config.get("context_length", 32),
        "patch_len": config.get("patch_length", 1),
        "stride": config.get("patch_stride", 1),
        "d_model": config.get("d_model", 128),
        "num_layers": config.get("num_hidden_layers", 3),
        "num_heads": config.get("num_attention_heads", 4),
        "hidden_dim": config.get("ffn_dim", 512),
        "scaling": scaling or "none",
        "dropout": config.get("path_dropout", 0.0),
        "num_classes": config.get("num_targets", 1),
        "norm_eps": config.get("norm_eps", 1e-5),
    }


# What else PatchTST may be there and is not here.
_SERIES_ONLY: dict[str, tuple[Any, ...]] = {
    "architectures": (["PatchTSTForClassification"],),
    "scaling": (None, "std"),
    "norm_type": ("batchnorm",),
    "activation_function": ("gelu",),
    "bias": (True,),
    "share_embedding": (True,),
    "channel_attention": (False,),
    "pre_norm": (True,),
    "use_cls_token": (False,),
    "do_mask_input": (False, None),
    "pooling_type": ("mean",),
}

EXPORTS: dict[str, Callable[[Args, Sequence[str]], dict[str, Any]]] = {
    "transformers/audio_transformer": _export_audio,
    "transformers/video_transformer": _export_video,
    "transformers/series_transformer": _export_series,
}
IMPORTS: dict[str, Callable[[Args], dict[str, Any]]] = {
    "transformers/audio_transformer": _import_audio,
    "transformers/video_transformer": _import_video,
    "transformers/series_transformer": _import_series,
}
# Where transformers' name of a type isn't ours.
TYPES = {
    "audio-spectrogram-transformer": "audio_transformer",
    "timesformer": "video_transformer",
    "patchtst": "series_transformer",
}
