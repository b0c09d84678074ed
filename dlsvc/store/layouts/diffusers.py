"""The names that diffusers gives to weights on disk."""

from __future__ import annotations

from dlsvc.store.layouts.rule import Layout, Rule, kernel, optional, pair


def _diffusers_block(theirs: str, ours: str) -> tuple[Rule, ...]:
    return (
        *pair(f"{theirs}.norm1", f"{ours}.norm1"),
        *pair(f"{theirs}.conv1", f"{ours}.conv1"),
        *pair(f"{theirs}.time_emb_proj", f"{ours}.time"),
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


def _diffusers_stage(stage: int) -> tuple[Rule, ...]:
    """A resolution on the way down, and the one of the same number on the way up."""
    down, up = f"down_blocks.{stage}", f"up_blocks.{stage}"
    return (
        *_diffusers_block(f"{down}.resnets.{{n}}", f"unet.down.{stage}.blocks.{{n}}"),
        *_diffusers_attention(f"{down}.attentions.{{n}}", f"unet.down.{stage}.attentions.{{n}}"),
        *optional(*pair(f"{down}.downsamplers.0.conv", f"unet.shrink.{stage}")),
        *_diffusers_block(f"{up}.resnets.{{n}}", f"unet.up.{stage}.blocks.{{n}}"),
        *_diffusers_attention(f"{up}.attentions.{{n}}", f"unet.up.{stage}.attentions.{{n}}"),
        *optional(*pair(f"{up}.upsamplers.0.conv", f"unet.grow.{stage}.conv")),
    )


# More than any network of these has.
_MOST_STAGES = 8
DDPM = Layout(
    rules=(
        *pair("conv_in", "unet.enter"),
        *pair("time_embedding.linear_1", "time1"),
        *pair("time_embedding.linear_2", "time2"),
        *optional(kernel("class_embedding", "label")),
        *(rule for stage in range(_MOST_STAGES) for rule in _diffusers_stage(stage)),
        *_diffusers_block("mid_block.resnets.0", "unet.middle.first"),
        *_diffusers_attention("mid_block.attentions.0", "unet.middle.attention"),
        *_diffusers_block("mid_block.resnets.1", "unet.middle.last"),
        *pair("conv_norm_out", "unet.norm"),
        *pair("conv_out", "unet.leave"),
    ),
)
