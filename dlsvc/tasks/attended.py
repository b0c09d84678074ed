"""Pictures of what a model attended to."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.nn.attention import rollout, watched
from dlsvc.tasks.base import in_colour, stretched

# So much of a picture is the colour of what reached the model, the rest the picture itself.
_TINT = 0.4
_DPI = 100


def patch_attention(model: nn.Module, image: Tensor, shown: Tensor) -> Tensor:
    """The pictures `shown` (B, C, H, W) in [0, 1] as (B, 3, H, W), red where most of the image reached the model's
    class token and blue where least did; the token stands before the patches of a square grid, and for a model without
    one there are none, (0, 3, H, W).
    """
    with watched(model) as seen:
        model(image)
    layers = [weights for calls in seen.values() for weights in calls]
    tokens = layers[0].shape[-1] if layers else 0
    side = round(max(tokens - 1, 0) ** 0.5)
    if side < 2 or side * side != tokens - 1 or any(weights.shape[-2:] != (tokens, tokens) for weights in layers):
        return shown.new_zeros(0, 3, *shown.shape[2:])
    reached = rollout(layers)[:, 0, 1:].unflatten(1, (1, side, side))  # (B, 1, P, P)
    heat = stretched(F.interpolate(reached, size=shown.shape[-2:], mode="bilinear", align_corners=False))
    colour = torch.cat([heat, torch.zeros_like(heat), 1 - heat], dim=1)
    return (1 - _TINT) * in_colour(shown) + _TINT * colour


@dataclass(frozen=True)
class Alignment:
    """How much of each source word went into each target word, (T, S)."""

    weights: np.ndarray
    source: Sequence[str]
    target: Sequence[str]


def alignment_pictures(alignments: Sequence[Alignment], width: float = 4.8) -> np.ndarray:
    """(N, H, W, 3) in [0, 1]: source words on top, target words down the side, dark where much went."""
    return np.stack([_drawn(one, width) for one in alignments])


def _drawn(alignment: Alignment, width: float) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, width), dpi=_DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(alignment.weights, cmap="Blues", vmin=0)
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(alignment.source)), alignment.source, rotation=90, fontsize=9)
    axes.set_yticks(range(len(alignment.target)), alignment.target, fontsize=9)
    axes.tick_params(length=0)
    out = io.BytesIO()
    canvas.print_rgba(out)
    height = round(width * _DPI)
    pixels = np.frombuffer(out.getvalue(), np.uint8).reshape(height, height, 4)
    return pixels[..., :3].astype(np.float32) / 255
