"""The names that timm gives to weights on disk."""

from __future__ import annotations

from dlsvc.store.layouts.rule import Layout, Rule, batch_norm, fused, kernel, optional, pair

VIT = Layout(
    rules=(
        Rule("cls_token", ("class_token",), lead=2),
        Rule("pos_embed", ("positions",), lead=1),
        *pair("patch_embed.proj", "patches"),
        *pair("blocks.{n}.norm1", "blocks.{n}.norm1"),
        *fused("blocks.{n}.attn.qkv", (f"blocks.{{n}}.attention.{part}" for part in ("query", "key", "value"))),
        *pair("blocks.{n}.attn.proj", "blocks.{n}.attention.output"),
        *pair("blocks.{n}.norm2", "blocks.{n}.norm2"),
        *pair("blocks.{n}.mlp.fc1", "blocks.{n}.mlp.fc1"),
        *pair("blocks.{n}.mlp.fc2", "blocks.{n}.mlp.fc2"),
        *pair("norm", "norm"),
        *optional(*pair("head", "head")),
    ),
)

VGG = Layout(
    rules=(
        # One sequence there too. Which places in it hold what depends on whether there are norms.
        *optional(*pair("features.{n}", "features.{n}")),
        *optional(*batch_norm("features.{n}", "features.{n}")[2:]),
        *pair("pre_logits.fc1", "fc1"),
        *pair("pre_logits.fc2", "fc2"),
        *pair("head.fc", "head"),
    ),
)


def _resnet_stage(stage: int) -> tuple[Rule, ...]:
    theirs, ours = f"layer{stage + 1}.{{n}}", f"stages.{stage}.{{n}}"
    return (
        kernel(f"{theirs}.conv1", f"{ours}.conv1"),
        *batch_norm(f"{theirs}.bn1", f"{ours}.norm1"),
        kernel(f"{theirs}.conv2", f"{ours}.conv2"),
        *batch_norm(f"{theirs}.bn2", f"{ours}.norm2"),
        # A bottleneck's.
        *optional(kernel(f"{theirs}.conv3", f"{ours}.conv3"), *batch_norm(f"{theirs}.bn3", f"{ours}.norm3")),
        # Only where the shape changes.
        *optional(
            kernel(f"{theirs}.downsample.0", f"{ours}.shortcut.0"),
            *batch_norm(f"{theirs}.downsample.1", f"{ours}.shortcut.1"),
        ),
    )


RESNET = Layout(
    rules=(
        kernel("conv1", "conv1"),
        *batch_norm("bn1", "norm1"),
        *(rule for stage in range(4) for rule in _resnet_stage(stage)),
        *pair("fc", "head"),
    ),
)


def _timm_efficientnet_block(theirs: str, ours: str, *, expands: bool) -> tuple[Rule, ...]:
    """Without an expansion, what follows it is counted from 1 there."""
    first, name = (2, "conv_pwl") if expands else (1, "conv_pw")
    expansion = (
        kernel(f"{theirs}.conv_pw", f"{ours}.expand.conv"),
        *batch_norm(f"{theirs}.bn1", f"{ours}.expand.norm"),
    )
    return (
        *(expansion if expands else ()),
        kernel(f"{theirs}.conv_dw", f"{ours}.depthwise.conv"),
        *batch_norm(f"{theirs}.bn{first}", f"{ours}.depthwise.norm"),
        *optional(*pair(f"{theirs}.se.conv_reduce", f"{ours}.squeeze.reduce")),
        *optional(*pair(f"{theirs}.se.conv_expand", f"{ours}.squeeze.expand")),
        kernel(f"{theirs}.{name}", f"{ours}.project"),
        *batch_norm(f"{theirs}.bn{first + 1}", f"{ours}.norm"),
    )


EFFICIENTNET = Layout(
    rules=(
        kernel("conv_stem", "stem.conv"),
        *batch_norm("bn1", "stem.norm"),
        *_timm_efficientnet_block("blocks.0.{n}", "stages.0.{n}", expands=False),
        *(
            rule
            for stage in range(1, 7)
            for rule in _timm_efficientnet_block(f"blocks.{stage}.{{n}}", f"stages.{stage}.{{n}}", expands=True)
        ),
        kernel("conv_head", "last.conv"),
        *batch_norm("bn2", "last.norm"),
        *pair("classifier", "head"),
    ),
)
