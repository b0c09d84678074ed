"""Configurations of language models in transformers' words, out and in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dlsvc.data.vocabulary import Special
from dlsvc.store.widths import Args, our_width, require, require_all, transformers_width


def with_ends(config: dict[str, Any], special: Special) -> dict[str, Any]:
    """A configuration with what texts begin and end with in its vocabulary, where it has a model that writes or that
    reads beside images. What it says of its own stays.
    """
    ends = {"pad_token_id": special.pad, "bos_token_id": special.bos, "eos_token_id": special.eos}
    kind = config.get("model_type")
    if kind == "blip":
        ends["sep_token_id"] = special.eos
    if "text_config" in config:
        return {**config, "text_config": {**ends, **config["text_config"]}}
    return {**ends, **config} if kind in ("gpt2", "llama") else config


def _export_bert(args: Args, classes: Sequence[str]) -> dict[str, Any]:
    return {
        "architectures": ["BertForMaskedLM" if args["head"] else "BertModel"],
        "model_type": "bert",
        "dtype": "float32",
        "vocab_size": args["vocab_size"],
        "max_position_embeddings": args["max_seq_len"],
        "type_vocab_size": args["num_segments"],
        **transformers_width(args),
        "layer_norm_eps": args["norm_eps"],
        "hidden_act": "gelu",
        "hidden_dropout_prob": args["dropout"],
        "attention_probs_dropout_prob": args["dropout"],
    }


def _import_bert(config: Args) -> dict[str, Any]:
    require_all(config, _BERT_ONLY)
    return {
        "vocab_size": config.get("vocab_size", 30522),
        "max_seq_len": config.get("max_position_embeddings", 512),
        "num_segments": config.get("type_vocab_size", 2),
        **our_width(config, width=768, layers=12, heads=12, hidden=3072),
        "dropout": config.get("hidden_dropout_prob", 0.1),
        "norm_eps": config.get("layer_norm_eps", 1e-12),
    }


def _export_gpt2(args: Args, classes: Sequence[str]) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "dtype": "float32",
        "vocab_size": args["vocab_size"],
        "n_positions": args["max_seq_len"],
        "n_embd": args["d_model"],
        "n_layer": args["num_layers"],
        "n_head": args["num_heads"],
        "n_inner": round(args["d_model"] * args["mlp_ratio"]),
        "layer_norm_epsilon": args["norm_eps"],
        "activation_function": "gelu_new",
        **{f"{name}_pdrop": args["dropout"] for name in ("resid", "embd", "attn")},
    }


def _import_gpt2(config: Args) -> dict[str, Any]:
    require_all(config, _GPT2_ONLY)
    width = config.get("n_embd", 768)
    return {
        "vocab_size": config.get("vocab_size", 50257),
        "max_seq_len": config.get("n_positions", 1024),
        "d_model": width,
        "num_layers": config.get("n_layer", 12),
        "num_heads": config.get("n_head", 12),
        "mlp_ratio": (config.get("n_inner") or 4 * width) / width,
        "dropout": config.get("resid_pdrop", 0.1),
        "norm_eps": config.get("layer_norm_epsilon", 1e-5),
    }


def _export_llama(args: Args, classes: Sequence[str]) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "vocab_size": args["vocab_size"],
        "max_position_embeddings": args["max_seq_len"],
        "hidden_size": args["d_model"],
        "num_hidden_layers": args["num_layers"],
        "num_attention_heads": args["num_heads"],
        "num_key_value_heads": args["num_kv_heads"] or args["num_heads"],
        "intermediate_size": args["hidden_dim"],
        "rms_norm_eps": args["norm_eps"],
        "rope_parameters": {"rope_type": "default", "rope_theta": args["rotary_base"]},
        "hidden_act": "silu",
        "tie_word_embeddings": args["tied"],
    }


def _import_llama(config: Args) -> dict[str, Any]:
    require_all(config, _LLAMA_ONLY)
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    # Older files call it type.
    require({"rope_type": rope.get("type", "default"), **rope}, "rope_type", ("default",))
    width, heads = config.get("hidden_size", 4096), config.get("num_attention_heads", 32)
    require(config, "head_dim", (None, width // heads))
    return {
        "vocab_size": config.get("vocab_size", 32000),
        "max_seq_len": config.get("max_position_embeddings", 2048),
        "d_model": width,
        "num_layers": config.get("num_hidden_layers", 32),
        "num_heads": heads,
        "num_kv_heads": config.get("num_key_value_heads"),
        "hidden_dim": config.get("intermediate_size", 11008),
        "rotary_base": rope.get("rope_theta", config.get("rope_theta", 10000.0)),
        "norm_eps": config.get("rms_norm_eps", 1e-6),
        "tied": config.get("tie_word_embeddings", False),
    }


# What else they may be there and are not here.
_BERT_ONLY: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("gelu",),
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "tie_word_embeddings": (True,),
}
_GPT2_ONLY: dict[str, tuple[Any, ...]] = {
    "activation_function": ("gelu_new",),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
    "tie_word_embeddings": (True,),
}
_LLAMA_ONLY: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": (False,),
    "mlp_bias": (False,),
}

EXPORTS: dict[str, Callable[[Args, Sequence[str]], dict[str, Any]]] = {
    "transformers/bert": _export_bert,
    "transformers/gpt2": _export_gpt2,
    "transformers/llama": _export_llama,
}
IMPORTS: dict[str, Callable[[Args], dict[str, Any]]] = {
    "transformers/bert": _import_bert,
    "transformers/gpt2": _import_gpt2,
    "transformers/llama": _import_llama,
}
