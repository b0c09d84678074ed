"""The names that diffusers gives to weights on disk."""

from __future__ import annotations

from collections.abc import Callable

from dlsvc.store.layouts.rule import Layout, Rule, kernel, optional, pair

Attention = Callable[[str, str], tuple[Rule, ...]]


def _diffusers_block(theirs: str, ours: str, *, timed: bool = True) -> tuple[Rule, ...]:
    return (
        *pair(f"{theirs}.norm1", f"{ours}.norm1"),
        *pair(f"{theirs}.conv1", f"{ours}.conv1"),
        *(pair(f"{theirs}.time_emb_proj", f"{ours}.time") if timed else ()),
        *pair(f"{theirs}.norm2", f"{ours}.norm2"),
        *pair(f"{theirs}.conv2", f"{ours}.conv2"),
        # Only where the number of channels changes.
        *optional(*pair(f"{theirs}.conv_shortcut", f"{ours}.shortcut")),
    )


def _diffusers_attention(theirs: str, ours: str) -> tuple[Rule, ...]:
    return (
        *pair(f"{theirs}.group_norm", f"{ours}.norm"),
        *pair(f"{theirs}.to_q", f"{ours}.attention.query"),
        *pair(f"{theirs}.to_k", f"{ours}.attention.key"),
        *pair(f"{theirs}.to_v", f"{ours}.attention.value"),
        *pair(f"{theirs}.to_out.0", f"{ours}.attention.output"),
    )


def _diffusers_stage(stage: int, attention: Attention) -> tuple[Rule, ...]:
    """A resolution on the way down, and the one of the same number on the way up."""
    down, up = f"down_blocks.{stage}", f"up_blocks.{stage}"
    return (
        *_diffusers_block(f"{down}.resnets.{{n}}", f"unet.down.{stage}.blocks.{{n}}"),
        *attention(f"{down}.attentions.{{n}}", f"unet.down.{stage}.attentions.{{n}}"),
        *optional(*pair(f"{down}.downsamplers.0.conv", f"unet.shrink.{stage}")),
        *_diffusers_block(f"{up}.resnets.{{n}}", f"unet.up.{stage}.blocks.{{n}}"),
        *attention(f"{up}.attentions.{{n}}", f"unet.up.{stage}.attentions.{{n}}"),
        *optional(*pair(f"{up}.upsamplers.0.conv", f"unet.grow.{stage}.conv")),
    )


def _context_attention(theirs: str, ours: str) -> tuple[Rule, ...]:
    """A transformer of one block."""
    block = f"{theirs}.transformer_blocks.0"
    return (
        *pair(f"{theirs}.norm", f"{ours}.norm"),
        *pair(f"{theirs}.proj_in", f"{ours}.enter"),
        *pair(f"{block}.norm1", f"{ours}.norm1"),
        *_without_bias(f"{block}.attn1", f"{ours}.own"),
        *pair(f"{block}.norm2", f"{ours}.norm2"),
        *_without_bias(f"{block}.attn2", f"{ours}.cross"),
        *pair(f"{block}.norm3", f"{ours}.norm3"),
        *pair(f"{block}.ff.net.0.proj", f"{ours}.mlp.enter"),
        *pair(f"{block}.ff.net.2", f"{ours}.mlp.leave"),
        *pair(f"{theirs}.proj_out", f"{ours}.leave"),
    )


def _without_bias(theirs: str, ours: str) -> tuple[Rule, ...]:
    names = {"to_q": "query", "to_k": "key", "to_v": "value"}
    return (
        *(kernel(f"{theirs}.{one}", f"{ours}.{other}") for one, other in names.items()),
        *pair(f"{theirs}.to_out.0", f"{ours}.output"),
    )


def _kl_coder(theirs: str, ours: str) -> tuple[Rule, ...]:
    """What an autoencoder's two halves have alike."""
    return (
        *pair(f"{theirs}.conv_in", f"{ours}.enter"),
        *_diffusers_block(f"{theirs}.mid_block.resnets.0", f"{ours}.middle.first", timed=False),
        *_diffusers_attention(f"{theirs}.mid_block.attentions.0", f"{ours}.middle.attention"),
        *_diffusers_block(f"{theirs}.mid_block.resnets.1", f"{ours}.middle.last", timed=False),
        *pair(f"{theirs}.conv_norm_out", f"{ours}.norm"),
        *pair(f"{theirs}.conv_out", f"{ours}.leave"),
    )


def _kl_stage(stage: int) -> tuple[Rule, ...]:
    down, up = f"encoder.down_blocks.{stage}", f"decoder.up_blocks.{stage}"
    return (
        *_diffusers_block(f"{down}.resnets.{{n}}", f"encoder.down.{stage}.{{n}}", timed=False),
        *optional(*pair(f"{down}.downsamplers.0.conv", f"encoder.shrink.{stage}.conv")),
        *_diffusers_block(f"{up}.resnets.{{n}}", f"decoder.up.{stage}.{{n}}", timed=False),
        *optional(*pair(f"{up}.upsamplers.0.conv", f"decoder.grow.{stage}.conv")),
    )


# More than any network of these has.
_MOST_STAGES = 8


def _unet(attention: Attention) -> tuple[Rule, ...]:
    return (
        *pair("conv_in", "unet.enter"),
        *pair("time_embedding.linear_1", "time1"),
        *pair("time_embedding.linear_2", "time2"),
        *(rule for stage in range(_MOST_STAGES) for rule in _diffusers_stage(stage, attention)),
        *_diffusers_block("mid_block.resnets.0", "unet.middle.first"),
        *attention("mid_block.attentions.0", "unet.middle.attention"),
        *_diffusers_block("mid_block.resnets.1", "unet.middle.last"),
        *pair("conv_norm_out", "unet.norm"),
        *pair("conv_out", "unet.leave"),
    )


DDPM = Layout(rules=(*_unet(_diffusers_attention), *optional(kernel("class_embedding", "label"))))
# Of latent diffusion the denoiser alone, as it lies in a directory of its own.
DENOISER = Layout(rules=_unet(_context_attention))
KL_AUTOENCODER = Layout(
    rules=(
        *_kl_coder("encoder", "encoder"),
        *_kl_coder("decoder", "decoder"),
        *pair("quant_conv", "moments"),
        *pair("post_quant_conv", "unfold"),
        *(rule for stage in range(_MOST_STAGES) for rule in _kl_stage(stage)),
    )
)
