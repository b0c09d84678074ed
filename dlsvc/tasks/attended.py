"""Pictures of what a model attended to."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.nn.attention import rollout, watched

# Of an image, what nothing reached is shown this bright.
_DARK = 0.15
_DPI = 100


def patch_attention(model: nn.Module, image: Tensor, shown: Tensor) -> Tensor:
    """The pictures `shown` (B, C, H, W) in [0, 1], darker where less of the image reached the model's class token,
    which stands before the patches of a square grid; (0, C, H, W) for a model without one.
    """
    with watched(model) as seen:
        model(image)
    layers = [weights for calls in seen.values() for weights in calls]
    tokens = layers[0].shape[-1] if layers else 0
    side = round(max(tokens - 1, 0) ** 0.5)
    if side < 2 or side * side != tokens - 1 or any(weights.shape[-2:] != (tokens, tokens) for weights in layers):
        return shown[:0]
    reached = rollout(layers)[:, 0, 1:].unflatten(1, (1, side, side))  # (B, 1, P, P)
    reached = reached / reached.amax((2, 3), keepdim=True)
    bright = F.interpolate(reached, size=shown.shape[-2:], mode="bilinear", align_corners=False)
    return shown * (_DARK + (1 - _DARK) * bright)


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
