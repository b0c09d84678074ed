"""The names that efficientnet-pytorch gives to weights on disk: EfficientNet-Lite0's come so."""

from __future__ import annotations

from dlsvc.store.layouts.rule import Layout, Rule, batch_norm, kernel, optional, pair


def _efficientnet_pytorch_block(number: int, ours: str) -> tuple[Rule, ...]:
    theirs, expands = f"_blocks.{number}", number > 0
    expansion = (
        kernel(f"{theirs}._expand_conv", f"{ours}.expand.conv"),
        *batch_norm(f"{theirs}._bn0", f"{ours}.expand.norm"),
    )
    return (
        *(expansion if expands else ()),
        kernel(f"{theirs}._depthwise_conv", f"{ours}.depthwise.conv"),
        *batch_norm(f"{theirs}._bn1", f"{ours}.depthwise.norm"),
        *optional(*pair(f"{theirs}._se_reduce", f"{ours}.squeeze.reduce")),
        *optional(*pair(f"{theirs}._se_expand", f"{ours}.squeeze.expand")),
        kernel(f"{theirs}._project_conv", f"{ours}.project"),
        *batch_norm(f"{theirs}._bn2", f"{ours}.norm"),
    )


# Blocks are numbered through there; these are Lite0's and B0's.
_BLOCKS_A_STAGE = (1, 2, 2, 3, 3, 4, 1)
_BLOCKS = [f"stages.{stage}.{place}" for stage, count in enumerate(_BLOCKS_A_STAGE) for place in range(count)]
EFFICIENTNET = Layout(
    rules=(
        kernel("_conv_stem", "stem.conv"),
        *batch_norm("_bn0", "stem.norm"),
        *(rule for number, ours in enumerate(_BLOCKS) for rule in _efficientnet_pytorch_block(number, ours)),
        kernel("_conv_head", "last.conv"),
        *batch_norm("_bn1", "last.norm"),
        *pair("_fc", "head"),
    ),
)
