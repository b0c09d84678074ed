"""The names that transformers gives to the weights of models of sounds, films and series."""

from __future__ import annotations

from dlsvc.store.layouts.rule import Layout, Rule, batch_norm, fused, pair
from dlsvc.store.layouts.transformers import vit_blocks

_AST, _FILM, _SERIES = "audio_spectrogram_transformer", "timesformer", "model.encoder"

AUDIO_TRANSFORMER = Layout(
    rules=(
        Rule(f"{_AST}.embeddings.cls_token", ("class_token",), lead=2),
        Rule(f"{_AST}.embeddings.distillation_token", ("distillation_token",), lead=2),
        Rule(f"{_AST}.embeddings.position_embeddings", ("positions",), lead=1),
        *pair(f"{_AST}.embeddings.patch_embeddings.projection", "patches"),
        *vit_blocks(f"{_AST}.encoder.layer.{{n}}", "blocks.{n}"),
        *pair(f"{_AST}.layernorm", "norm"),
        *pair("classifier.layernorm", "head_norm"),
        *pair("classifier.dense", "head"),
    ),
)


def _divided(theirs: str, ours: str) -> tuple[Rule, ...]:
    """An attention whose queries, keys and values are one tensor there."""
    parts = (f"{ours}.{part}" for part in ("query", "key", "value"))
    return (*fused(f"{theirs}.attention.qkv", parts), *pair(f"{theirs}.output.dense", f"{ours}.output"))


_FILM_LAYER = f"{_FILM}.encoder.layer.{{n}}"
VIDEO_TRANSFORMER = Layout(
    rules=(
        Rule(f"{_FILM}.embeddings.cls_token", ("class_token",), lead=2),
        Rule(f"{_FILM}.embeddings.position_embeddings", ("positions",), lead=1),
        Rule(f"{_FILM}.embeddings.time_embeddings", ("times",), lead=1),
        *pair(f"{_FILM}.embeddings.patch_embeddings.projection", "patches"),
        *pair(f"{_FILM_LAYER}.temporal_layernorm", "blocks.{n}.time_norm"),
        *_divided(f"{_FILM_LAYER}.temporal_attention", "blocks.{n}.time_attention"),
        *pair(f"{_FILM_LAYER}.temporal_dense", "blocks.{n}.time_output"),
        *pair(f"{_FILM_LAYER}.layernorm_before", "blocks.{n}.norm1"),
        *_divided(f"{_FILM_LAYER}.attention", "blocks.{n}.attention"),
        *pair(f"{_FILM_LAYER}.layernorm_after", "blocks.{n}.norm2"),
        *pair(f"{_FILM_LAYER}.intermediate.dense", "blocks.{n}.mlp.fc1"),
        *pair(f"{_FILM_LAYER}.output.dense", "blocks.{n}.mlp.fc2"),
        *pair(f"{_FILM}.layernorm", "norm"),
        *pair("classifier", "head"),
    ),
)

_SERIES_LAYER = f"{_SERIES}.layers.{{n}}"
SERIES_TRANSFORMER = Layout(
    rules=(
        *pair(f"{_SERIES}.embedder.input_embedding", "patches"),
        Rule(f"{_SERIES}.positional_encoder.position_enc", ("positions",)),
        *batch_norm(f"{_SERIES_LAYER}.norm_sublayer1.batchnorm", "blocks.{n}.norm1"),
        *pair(f"{_SERIES_LAYER}.self_attn.q_proj", "blocks.{n}.attention.query"),
        *pair(f"{_SERIES_LAYER}.self_attn.k_proj", "blocks.{n}.attention.key"),
        *pair(f"{_SERIES_LAYER}.self_attn.v_proj", "blocks.{n}.attention.value"),
        *pair(f"{_SERIES_LAYER}.self_attn.out_proj", "blocks.{n}.attention.output"),
        *batch_norm(f"{_SERIES_LAYER}.norm_sublayer3.batchnorm", "blocks.{n}.norm2"),
        *pair(f"{_SERIES_LAYER}.ff.0", "blocks.{n}.mlp.fc1"),
        *pair(f"{_SERIES_LAYER}.ff.3", "blocks.{n}.mlp.fc2"),
        *pair("head.linear", "head"),
    ),
)
