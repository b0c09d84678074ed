"""The names that transformers gives to weights on disk."""

from __future__ import annotations

from dlsvc.store.layouts.rule import Layout, Rule, optional, pair


def _clip_blocks(theirs: str, ours: str) -> tuple[Rule, ...]:
    """A stack of blocks as transformers' CLIP names them; both towers are alike."""
    return (
        *pair(f"{theirs}.layer_norm1", f"{ours}.norm1"),
        *pair(f"{theirs}.self_attn.q_proj", f"{ours}.attention.query"),
        *pair(f"{theirs}.self_attn.k_proj", f"{ours}.attention.key"),
        *pair(f"{theirs}.self_attn.v_proj", f"{ours}.attention.value"),
        *pair(f"{theirs}.self_attn.out_proj", f"{ours}.attention.output"),
        *pair(f"{theirs}.layer_norm2", f"{ours}.norm2"),
        *pair(f"{theirs}.mlp.fc1", f"{ours}.mlp.fc1"),
        *pair(f"{theirs}.mlp.fc2", f"{ours}.mlp.fc2"),
    )


VIT = Layout(
    rules=(
        Rule("vit.embeddings.cls_token", ("class_token",), lead=2),
        Rule("vit.embeddings.position_embeddings", ("positions",), lead=1),
        *pair("vit.embeddings.patch_embeddings.projection", "patches"),
        *pair("vit.encoder.layer.{n}.layernorm_before", "blocks.{n}.norm1"),
        *pair("vit.encoder.layer.{n}.attention.attention.query", "blocks.{n}.attention.query"),
        *pair("vit.encoder.layer.{n}.attention.attention.key", "blocks.{n}.attention.key"),
        *pair("vit.encoder.layer.{n}.attention.attention.value", "blocks.{n}.attention.value"),
        *pair("vit.encoder.layer.{n}.attention.output.dense", "blocks.{n}.attention.output"),
        *pair("vit.encoder.layer.{n}.layernorm_after", "blocks.{n}.norm2"),
        *pair("vit.encoder.layer.{n}.intermediate.dense", "blocks.{n}.mlp.fc1"),
        *pair("vit.encoder.layer.{n}.output.dense", "blocks.{n}.mlp.fc2"),
        *pair("vit.layernorm", "norm"),
        *optional(*pair("classifier", "head")),
    ),
    prefix="vit.",
    # A tanh layer on the class token, which only pre-training used.
    ignored=(r"vit\.pooler\.dense\.(weight|bias)",),
)

CLIP = Layout(
    rules=(
        Rule("vision_model.embeddings.class_embedding", ("vision_encoder.class_token",)),
        Rule("vision_model.embeddings.position_embedding.weight", ("vision_encoder.positions",)),
        Rule("vision_model.embeddings.patch_embedding.weight", ("vision_encoder.patches.weight",)),
        # Misspelt there, and part of the contract.
        *pair("vision_model.pre_layrnorm", "vision_encoder.embedding_norm"),
        *_clip_blocks("vision_model.encoder.layers.{n}", "vision_encoder.blocks.{n}"),
        *pair("vision_model.post_layernorm", "vision_encoder.norm"),
        Rule("text_model.embeddings.token_embedding.weight", ("text_encoder.tokens.weight",)),
        Rule("text_model.embeddings.position_embedding.weight", ("text_encoder.positions",)),
        *_clip_blocks("text_model.encoder.layers.{n}", "text_encoder.blocks.{n}"),
        *pair("text_model.final_layer_norm", "text_encoder.norm"),
        Rule("visual_projection.weight", ("vision_projection.weight",)),
        Rule("text_projection.weight", ("text_projection.weight",)),
        Rule("logit_scale", ("logit_scale",), lead=-1),
    ),
    # Constant counters that older files hold.
    ignored=(r"(text|vision)_model\.embeddings\.position_ids",),
)
