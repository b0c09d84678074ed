"""Weights between our names and the layouts that others read from disk: a table of rules for each layout, and one
engine for all of them.

A layout is `<library>/<model>`. Rules are data: a name of theirs, the name of ours (or several, when theirs is a fused
tensor), `{n}` where the number of a layer stands. Nothing is skipped in silence: what a layout lacks and what is left
over are errors that list the names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dlsvc.errors import DataError, UsageError, did_you_mean

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Rule:
    """One tensor of theirs and where it goes.

    `ours` has several names when theirs is their concatenation along the first axis. `lead` is how many leading axes of
    length 1 theirs has and ours lacks; -1 when ours has one and theirs is a scalar. `is_optional`: a model may do
    without.
    """

    theirs: str
    ours: tuple[str, ...]
    lead: int = 0
    is_optional: bool = False

    @property
    def is_layered(self) -> bool:
        return "{n}" in self.theirs


@dataclass(frozen=True)
class Layout:
    """The rules of a layout. `prefix` may be missing from all names on disk; names that match `ignored` hold
    nothing of the model.
    """

    rules: tuple[Rule, ...]
    prefix: str = ""
    ignored: tuple[str, ...] = ()


def pair(theirs: str, ours: str) -> tuple[Rule, Rule]:
    """The weight and the bias of a layer."""
    return Rule(f"{theirs}.weight", (f"{ours}.weight",)), Rule(f"{theirs}.bias", (f"{ours}.bias",))


def fused(theirs: str, ours: Iterable[str]) -> tuple[Rule, Rule]:
    """The weights and the biases of several layers in one tensor each."""
    names = tuple(ours)
    weights, biases = tuple(f"{name}.weight" for name in names), tuple(f"{name}.bias" for name in names)
    return Rule(f"{theirs}.weight", weights), Rule(f"{theirs}.bias", biases)


def optional(*rules: Rule) -> tuple[Rule, ...]:
    return tuple(Rule(rule.theirs, rule.ours, rule.lead, True) for rule in rules)


def batch_norm(theirs: str, ours: str) -> tuple[Rule, ...]:
    """What a batch norm learns, and what it counts."""
    parts = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return tuple(Rule(f"{theirs}.{part}", (f"{ours}.{part}",)) for part in parts)


def kernel(theirs: str, ours: str) -> Rule:
    """The weight of a convolution without bias."""
    return Rule(f"{theirs}.weight", (f"{ours}.weight",))


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


_TRANSFORMERS_VIT = Layout(
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

_TIMM_VIT = Layout(
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

_TRANSFORMERS_CLIP = Layout(
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

_TIMM_VGG = Layout(
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


_TIMM_RESNET = Layout(
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


_TIMM_EFFICIENTNET = Layout(
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
_EFFICIENTNET_PYTORCH = Layout(
    rules=(
        kernel("_conv_stem", "stem.conv"),
        *batch_norm("_bn0", "stem.norm"),
        *(rule for number, ours in enumerate(_BLOCKS) for rule in _efficientnet_pytorch_block(number, ours)),
        kernel("_conv_head", "last.conv"),
        *batch_norm("_bn1", "last.norm"),
        *pair("_fc", "head"),
    ),
)


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
_DIFFUSERS_DDPM = Layout(
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

LAYOUTS: dict[str, Layout] = {
    "transformers/vit": _TRANSFORMERS_VIT,
    "transformers/clip": _TRANSFORMERS_CLIP,
    "timm/vit": _TIMM_VIT,
    "timm/vgg16": _TIMM_VGG,
    "timm/resnet34": _TIMM_RESNET,
    "timm/efficientnet": _TIMM_EFFICIENTNET,
    "efficientnet-pytorch/efficientnet": _EFFICIENTNET_PYTORCH,
    "diffusers/ddpm": _DIFFUSERS_DDPM,
}


def import_weights(layout: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """Their tensors under our names, as a strict `load_state_dict` takes them. Raises DataError listing what is
    missing or left over.
    """
    chosen = resolve_layout(layout)
    given = _prefixed(tensors, chosen.prefix)
    kept = {name: tensor for name, tensor in given.items() if not _matches(name, chosen.ignored)}
    found: Tensors = {}
    used: set[str] = set()
    missing: list[str] = []
    for rule, layer in _expanded(chosen.rules, [rule.theirs for rule in chosen.rules], kept):
        name = _numbered(rule.theirs, layer)
        if name in kept:
            used.add(name)
            whole = _reshaped(kept[name], rule.lead)
            # A counter has no axis to be cut along.
            parts = whole.chunk(len(rule.ours)) if len(rule.ours) > 1 else (whole,)
            found |= {_numbered(ours, layer): part.contiguous() for ours, part in zip(rule.ours, parts, strict=True)}
        elif not rule.is_optional:
            missing.append(name)
    _refuse(layout, "the file", missing, sorted(set(kept) - used))
    return found


def export_weights(layout: str, state: Mapping[str, Tensor]) -> Tensors:
    """Our tensors under their names and in their shapes. Raises DataError listing what is missing or left over."""
    chosen = resolve_layout(layout)
    found: Tensors = {}
    used: set[str] = set()
    missing: list[str] = []
    for rule, layer in _expanded(chosen.rules, [rule.ours[0] for rule in chosen.rules], state):
        names = [_numbered(ours, layer) for ours in rule.ours]
        lacking = [name for name in names if name not in state]
        if not lacking:
            used.update(names)
            whole = torch.cat([state[name] for name in names]) if len(names) > 1 else state[names[0]]
            found[_numbered(rule.theirs, layer)] = _reshaped(whole, -rule.lead).contiguous()
        elif not rule.is_optional:
            missing += lacking
    _refuse(layout, "the model", missing, sorted(set(state) - used))
    return found


def resolve_layout(layout: str) -> Layout:
    """The layout of that name. Raises UsageError naming the closest one."""
    if layout not in LAYOUTS:
        raise UsageError(f"no weight layout is called {layout!r}{did_you_mean(layout, LAYOUTS)}")
    return LAYOUTS[layout]


def _expanded(rules: tuple[Rule, ...], templates: list[str], names: Iterable[str]) -> list[tuple[Rule, int | None]]:
    """Each rule once, or once a layer: layers run up to the highest number that occurs under the rule's stack."""
    names = list(names)
    depth: dict[str, int] = {}
    for template in templates:
        stack, _, _ = template.partition("{n}")
        numbers = [int(hit[1]) for name in names if (hit := re.match(re.escape(stack) + r"(\d+)\.", name))]
        depth[stack] = max(numbers, default=-1) + 1
    found: list[tuple[Rule, int | None]] = []
    for rule, template in zip(rules, templates, strict=True):
        layers = range(depth[template.partition("{n}")[0]]) if rule.is_layered else [None]
        found += [(rule, layer) for layer in layers]
    return found


def _numbered(template: str, layer: int | None) -> str:
    return template if layer is None else template.replace("{n}", str(layer))


def _prefixed(tensors: Mapping[str, Tensor], prefix: str) -> Mapping[str, Tensor]:
    """A body saved by itself lacks the prefix that it has within a whole model."""
    if not prefix or any(name.startswith(prefix) for name in tensors):
        return tensors
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def _reshaped(tensor: Tensor, lead: int) -> Tensor:
    """Drop `lead` leading axes, or add some when it is negative."""
    return tensor.reshape(tensor.shape[lead:]) if lead >= 0 else tensor.reshape((1,) * -lead + tuple(tensor.shape))


def _refuse(layout: str, what: str, missing: list[str], left_over: list[str]) -> None:
    problems = [
        f"{label}: {', '.join(names[:8])}{f' and {len(names) - 8} more' if len(names) > 8 else ''}"
        for label, names in (("it lacks", missing), ("nothing takes", left_over))
        if names
    ]
    if problems:
        raise DataError(f"{what} doesn't fit the layout {layout!r}; {'; '.join(problems)}")
