"""The names that transformers gives to models of images and texts."""

from __future__ import annotations

from dlsvc.store.layouts.rule import Layout, Rule, fused, kernel, optional, pair
from dlsvc.store.layouts.transformers import clip_blocks

LLAVA = Layout(
    rules=(
        Rule("vision_tower.embeddings.class_embedding", ("vision_encoder.class_token",)),
        Rule("vision_tower.embeddings.position_embedding.weight", ("vision_encoder.positions",)),
        kernel("vision_tower.embeddings.patch_embedding", "vision_encoder.patches"),
        *pair("vision_tower.pre_layrnorm", "vision_encoder.embedding_norm"),
        *clip_blocks("vision_tower.encoder.layers.{n}", "vision_encoder.blocks.{n}"),
        *pair("vision_tower.post_layernorm", "vision_encoder.norm"),
        *pair("multi_modal_projector.linear_1", "assistant.projector.fc1"),
        *pair("multi_modal_projector.linear_2", "assistant.projector.fc2"),
        kernel("language_model.model.embed_tokens", "assistant.language.tokens"),
        *(
            kernel(f"language_model.model.layers.{{n}}.{theirs}", f"assistant.language.blocks.{{n}}.{ours}")
            for theirs, ours in (
                ("input_layernorm", "norm1"),
                ("self_attn.q_proj", "attention.query"),
                ("self_attn.k_proj", "attention.key"),
                ("self_attn.v_proj", "attention.value"),
                ("self_attn.o_proj", "attention.output"),
                ("post_attention_layernorm", "norm2"),
                ("mlp.gate_proj", "mlp.gate"),
                ("mlp.up_proj", "mlp.up"),
                ("mlp.down_proj", "mlp.down"),
            )
        ),
        kernel("language_model.model.norm", "assistant.language.norm"),
        *optional(kernel("language_model.lm_head", "assistant.language.head")),
    ),
    # As transformers wrote them before 5.
    renamed=((r"^vision_tower\.vision_model\.", "vision_tower."),),
    # Constant counters and frequencies that older files hold.
    ignored=(
        r"vision_tower\.embeddings\.position_ids",
        r"language_model\.model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq",
    ),
)


def _blip_image() -> tuple[Rule, ...]:
    theirs, ours = "vision_model.encoder.layers.{n}", "vision_encoder.blocks.{n}"
    return (
        Rule("vision_model.embeddings.class_embedding", ("vision_encoder.class_token",), lead=2),
        Rule("vision_model.embeddings.position_embedding", ("vision_encoder.positions",), lead=1),
        *pair("vision_model.embeddings.patch_embedding", "vision_encoder.patches"),
        *pair(f"{theirs}.layer_norm1", f"{ours}.norm1"),
        *fused(f"{theirs}.self_attn.qkv", [f"{ours}.attention.{part}" for part in ("query", "key", "value")]),
        *pair(f"{theirs}.self_attn.projection", f"{ours}.attention.output"),
        *pair(f"{theirs}.layer_norm2", f"{ours}.norm2"),
        *pair(f"{theirs}.mlp.fc1", f"{ours}.mlp.fc1"),
        *pair(f"{theirs}.mlp.fc2", f"{ours}.mlp.fc2"),
        *pair("vision_model.post_layernorm", "vision_encoder.norm"),
    )


def _blip_text(theirs: str, attention: str, norm: str) -> tuple[Rule, ...]:
    """The text transformer with one of its self-attentions."""
    layer, block = f"{theirs}.encoder.layer.{{n}}", "text.blocks.{n}"
    return (
        kernel(f"{theirs}.embeddings.word_embeddings", "text.tokens"),
        kernel(f"{theirs}.embeddings.position_embeddings", "text.positions"),
        *pair(f"{theirs}.embeddings.LayerNorm", "text.norm"),
        *_bert_attention(f"{layer}.attention", "self", f"{block}.{attention}", f"{block}.{norm}"),
        *_bert_attention(f"{layer}.crossattention", "self", f"{block}.context_attention", f"{block}.context_norm"),
        *pair(f"{layer}.intermediate.dense", f"{block}.mlp.fc1"),
        *pair(f"{layer}.output.dense", f"{block}.mlp.fc2"),
        *pair(f"{layer}.output.LayerNorm", f"{block}.norm2"),
    )


def _bert_attention(theirs: str, inner: str, ours: str, norm: str) -> tuple[Rule, ...]:
    return (
        *pair(f"{theirs}.{inner}.query", f"{ours}.query"),
        *pair(f"{theirs}.{inner}.key", f"{ours}.key"),
        *pair(f"{theirs}.{inner}.value", f"{ours}.value"),
        *pair(f"{theirs}.output.dense", f"{ours}.output"),
        *pair(f"{theirs}.output.LayerNorm", norm),
    )


# transformers has a class for what writes and one for what reads; ours is both.
BLIP = Layout(
    rules=(
        *_blip_image(),
        *_blip_text("text_decoder.bert", "causal_attention", "causal_norm"),
        *pair("text_decoder.cls.predictions.transform.dense", "text.head.dense"),
        *pair("text_decoder.cls.predictions.transform.LayerNorm", "text.head.norm"),
        Rule("text_decoder.cls.predictions.bias", ("text.head.bias",)),
    ),
    ignored=(r"text_decoder\.cls\.predictions\.decoder\.(weight|bias)",),
    left_out=(
        r"text\.blocks\.\d+\.(attention|norm1)\..*",
        r"(vision_projection|text_projection|match_head)\..*",
        "logit_scale",
    ),
)
BLIP_RETRIEVAL = Layout(
    rules=(
        *_blip_image(),
        *_blip_text("text_encoder", "attention", "norm1"),
        *pair("vision_proj", "vision_projection"),
        *pair("text_proj", "text_projection"),
        *pair("itm_head", "match_head"),
    ),
    left_out=(r"text\.blocks\.\d+\.(causal_attention|causal_norm)\..*", r"text\.head\..*", "logit_scale"),
)

_LAYER, _BLOCK = "qformer.encoder.layer.{n}", "qformer.blocks.{n}"
# The image encoder there is another one; queries attend to it in every other layer.
BLIP2_QFORMER = Layout(
    rules=(
        Rule("query_tokens", ("qformer.queries",), lead=1),
        kernel("embeddings.word_embeddings", "qformer.tokens"),
        kernel("embeddings.position_embeddings", "qformer.positions"),
        *pair("qformer.layernorm", "qformer.norm"),
        *_bert_attention(f"{_LAYER}.attention", "attention", f"{_BLOCK}.attention", f"{_BLOCK}.norm1"),
        *optional(
            *_bert_attention(
                f"{_LAYER}.crossattention", "attention", f"{_BLOCK}.context_attention", f"{_BLOCK}.context_norm"
            )
        ),
        *pair(f"{_LAYER}.intermediate_query.dense", f"{_BLOCK}.query_mlp.fc1"),
        *pair(f"{_LAYER}.output_query.dense", f"{_BLOCK}.query_mlp.fc2"),
        *pair(f"{_LAYER}.output_query.LayerNorm", f"{_BLOCK}.query_norm"),
        *pair(f"{_LAYER}.intermediate.dense", f"{_BLOCK}.mlp.fc1"),
        *pair(f"{_LAYER}.output.dense", f"{_BLOCK}.mlp.fc2"),
        *pair(f"{_LAYER}.output.LayerNorm", f"{_BLOCK}.norm2"),
        *pair("vision_projection", "vision_projection"),
        *pair("text_projection", "text_projection"),
        *pair("itm_head", "match_head"),
    ),
    ignored=(r"vision_model\..*",),
    left_out=(r"vision_encoder\..*", r"head\..*", "logit_scale"),
)
