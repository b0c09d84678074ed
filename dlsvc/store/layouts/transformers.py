"""The names that transformers gives to weights on disk."""

from __future__ import annotations

from dlsvc.store.layouts.rule import Layout, Rule, kernel, optional, pair


def clip_blocks(theirs: str, ours: str) -> tuple[Rule, ...]:
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


def vit_blocks(theirs: str, ours: str) -> tuple[Rule, ...]:
    """A stack of blocks as transformers' ViT names them, and models that grew from it."""
    return (
        *pair(f"{theirs}.layernorm_before", f"{ours}.norm1"),
        *pair(f"{theirs}.attention.attention.query", f"{ours}.attention.query"),
        *pair(f"{theirs}.attention.attention.key", f"{ours}.attention.key"),
        *pair(f"{theirs}.attention.attention.value", f"{ours}.attention.value"),
        *pair(f"{theirs}.attention.output.dense", f"{ours}.attention.output"),
        *pair(f"{theirs}.layernorm_after", f"{ours}.norm2"),
        *pair(f"{theirs}.intermediate.dense", f"{ours}.mlp.fc1"),
        *pair(f"{theirs}.output.dense", f"{ours}.mlp.fc2"),
    )


VIT = Layout(
    rules=(
        Rule("vit.embeddings.cls_token", ("class_token",), lead=2),
        Rule("vit.embeddings.position_embeddings", ("positions",), lead=1),
        *pair("vit.embeddings.patch_embeddings.projection", "patches"),
        *vit_blocks("vit.encoder.layer.{n}", "blocks.{n}"),
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
        *clip_blocks("vision_model.encoder.layers.{n}", "vision_encoder.blocks.{n}"),
        *pair("vision_model.post_layernorm", "vision_encoder.norm"),
        Rule("text_model.embeddings.token_embedding.weight", ("text_encoder.tokens.weight",)),
        Rule("text_model.embeddings.position_embedding.weight", ("text_encoder.positions",)),
        *clip_blocks("text_model.encoder.layers.{n}", "text_encoder.blocks.{n}"),
        *pair("text_model.final_layer_norm", "text_encoder.norm"),
        Rule("visual_projection.weight", ("vision_projection.weight",)),
        Rule("text_projection.weight", ("text_projection.weight",)),
        Rule("logit_scale", ("logit_scale",), lead=-1),
    ),
    # Constant counters that older files hold.
    ignored=(r"(text|vision)_model\.embeddings\.position_ids",),
)


def _bert_blocks(theirs: str, ours: str) -> tuple[Rule, ...]:
    return (
        *pair(f"{theirs}.attention.self.query", f"{ours}.attention.query"),
        *pair(f"{theirs}.attention.self.key", f"{ours}.attention.key"),
        *pair(f"{theirs}.attention.self.value", f"{ours}.attention.value"),
        *pair(f"{theirs}.attention.output.dense", f"{ours}.attention.output"),
        *pair(f"{theirs}.attention.output.LayerNorm", f"{ours}.norm1"),
        *pair(f"{theirs}.intermediate.dense", f"{ours}.mlp.fc1"),
        *pair(f"{theirs}.output.dense", f"{ours}.mlp.fc2"),
        *pair(f"{theirs}.output.LayerNorm", f"{ours}.norm2"),
    )


BERT = Layout(
    rules=(
        Rule("bert.embeddings.word_embeddings.weight", ("tokens.weight",)),
        Rule("bert.embeddings.position_embeddings.weight", ("positions.weight",)),
        Rule("bert.embeddings.token_type_embeddings.weight", ("segments.weight",)),
        *pair("bert.embeddings.LayerNorm", "norm"),
        *_bert_blocks("bert.encoder.layer.{n}", "blocks.{n}"),
        *optional(
            *pair("cls.predictions.transform.dense", "head.dense"),
            *pair("cls.predictions.transform.LayerNorm", "head.norm"),
            Rule("cls.predictions.bias", ("head.bias",)),
        ),
    ),
    prefix="bert.",
    # As TensorFlow named them, in BERT's own files.
    renamed=((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias")),
    # The head's table is the embedding's; the pooler and the next-sentence head are of pre-training.
    ignored=(
        r"bert\.pooler\.dense\.(weight|bias)",
        r"bert\.embeddings\.position_ids",
        r"cls\.predictions\.decoder\.(weight|bias)",
        r"cls\.seq_relationship\.(weight|bias)",
    ),
)


def _transposed(theirs: str, ours: tuple[str, ...]) -> tuple[Rule, Rule]:
    """A layer that GPT-2 keeps as inputs by outputs."""
    weights, biases = tuple(f"{name}.weight" for name in ours), tuple(f"{name}.bias" for name in ours)
    return Rule(f"{theirs}.weight", weights, transposed=True), Rule(f"{theirs}.bias", biases)


_GPT2_ATTENTION = tuple(f"blocks.{{n}}.attention.{part}" for part in ("query", "key", "value"))
GPT2 = Layout(
    rules=(
        Rule("transformer.wte.weight", ("tokens.weight",)),
        Rule("transformer.wpe.weight", ("positions.weight",)),
        *pair("transformer.h.{n}.ln_1", "blocks.{n}.norm1"),
        *_transposed("transformer.h.{n}.attn.c_attn", _GPT2_ATTENTION),
        *_transposed("transformer.h.{n}.attn.c_proj", ("blocks.{n}.attention.output",)),
        *pair("transformer.h.{n}.ln_2", "blocks.{n}.norm2"),
        *_transposed("transformer.h.{n}.mlp.c_fc", ("blocks.{n}.mlp.fc1",)),
        *_transposed("transformer.h.{n}.mlp.c_proj", ("blocks.{n}.mlp.fc2",)),
        *pair("transformer.ln_f", "norm"),
    ),
    prefix="transformer.",
    # The head is the embedding's table; older files hold masks.
    ignored=(r"(transformer\.)?lm_head\.weight", r"transformer\.h\.\d+\.attn\.(bias|masked_bias)"),
)

LLAMA = Layout(
    rules=(
        kernel("model.embed_tokens", "tokens"),
        kernel("model.layers.{n}.input_layernorm", "blocks.{n}.norm1"),
        kernel("model.layers.{n}.self_attn.q_proj", "blocks.{n}.attention.query"),
        kernel("model.layers.{n}.self_attn.k_proj", "blocks.{n}.attention.key"),
        kernel("model.layers.{n}.self_attn.v_proj", "blocks.{n}.attention.value"),
        kernel("model.layers.{n}.self_attn.o_proj", "blocks.{n}.attention.output"),
        kernel("model.layers.{n}.post_attention_layernorm", "blocks.{n}.norm2"),
        kernel("model.layers.{n}.mlp.gate_proj", "blocks.{n}.mlp.gate"),
        kernel("model.layers.{n}.mlp.up_proj", "blocks.{n}.mlp.up"),
        kernel("model.layers.{n}.mlp.down_proj", "blocks.{n}.mlp.down"),
        kernel("model.norm", "norm"),
        *optional(kernel("lm_head", "head")),
    ),
    # Constant frequencies that older files hold.
    ignored=(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq",),
)
