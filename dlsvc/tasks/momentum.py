"""Contrast with what a slowly moving copy of the model makes of this batch and made of those before it, and with how
alike it finds them.

N samples, n of them at a time, M = N + K of which K are remembered, E width of an embedding, of which an image or a
text may have several: (..., R, E).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dlsvc.tasks.base import Losses, Report

# Rows of the similarity matrix held at a time.
_CHUNK = 1024


class FeatureQueue(nn.Module):
    """Embeddings of the last `size` samples, newest first: of images (size, *shape), (E,) or (R, E) each, and of texts
    (size, E).

    It begins empty, and what is not filled yet does not count. The authors of MoCo and BLIP begin with random vectors;
    those are negatives that no image or text could be, and the first steps would be spent on telling them apart.
    """

    images: Tensor
    texts: Tensor
    filled: Tensor
    steps: Tensor

    def __init__(self, size: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("images", torch.zeros(size, *shape))
        self.register_buffer("texts", torch.zeros(size, shape[-1]))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def held(self) -> tuple[Tensor, Tensor]:
        """Images' and texts' embeddings, (K, ...) each."""
        filled = int(self.filled)
        return self.images[:filled], self.texts[:filled]

    @torch.no_grad()
    def push(self, images: Tensor, texts: Tensor) -> None:
        """Add a step's samples (N, ...), the last of which comes first; the oldest leave."""
        size = len(self.images)
        for kept, new in ((self.images, images), (self.texts, texts)):
            kept.copy_(torch.cat([new.flip(0), kept])[:size])
        self.filled.copy_((self.filled + len(images)).clamp(max=size))
        self.steps += 1


def contrast_with_memory(features: dict[str, Tensor], chunk: int = _CHUNK) -> tuple[Losses, Report]:
    """The losses of both directions (Li et al. 2021, equations 1, 2 and 6, the divergence as cross-entropy, which has
    the same gradient): each `image_embeds` among `text_momentum` (N, ...) and `text_queue` (K, ...), each `text_embeds`
    among `image_momentum` and `image_queue`; all of length 1, times `logit_scale`. The target of a row is
    1 - `softness` on its partner, and `softness` spread as the momentum encoder's own row is.

    Beyond `chunk` samples the N x M logits are made so many rows at a time, and again for the gradient.
    """
    scale, softness = features["logit_scale"], features["softness"]
    found = {}
    for query, target in (("image", "text"), ("text", "image")):
        online, own = features[f"{query}_embeds"], features[f"{query}_momentum"]
        others = torch.cat([features[f"{target}_momentum"], features[f"{target}_queue"]])
        rows = [(online[at : at + chunk], own[at : at + chunk], others, at) for at in range(0, len(online), chunk)]
        if len(rows) == 1:
            parts = [_rows(scale, softness, *rows[0])]
        else:
            parts = [checkpoint(_rows, scale, softness, *each, use_reentrant=False) for each in rows]
        found[f"{query}_to_{target}"] = [torch.cat(column) for column in zip(*parts, strict=True)]
    losses = {f"{name}_loss": loss.mean() / 2 for name, (loss, _) in found.items()}
    return losses, {"temperature": 1 / scale.detach(), "accuracy": found["image_to_text"][1].mean()}


def _rows(
    scale: Tensor, softness: Tensor, online: Tensor, own: Tensor, others: Tensor, first: int
) -> tuple[Tensor, Tensor]:
    """Of samples from place `first` on: each one's cross-entropy over the others (M, ...), and whether its partner is
    the likeliest; (n,) both.
    """
    logits = scale * nearest(online, others)
    with torch.no_grad():
        soft = (scale * nearest(own, others)).softmax(1)
        partner = first + torch.arange(len(logits), device=logits.device)
        right = (logits.argmax(1) == partner).float()
    wanted = (1 - softness) * logits.gather(1, partner[:, None])[:, 0] + softness * (soft * logits).sum(1)
    return logits.logsumexp(1) - wanted, right


def nearest(some: Tensor, others: Tensor) -> Tensor:
    """Products (n, M) of embeddings (n, E) and (M, E); of those that are several, (n, R, E) or (M, R, E), the largest
    counts.
    """
    if others.dim() > some.dim():
        return nearest(others, some).T
    products = (some @ others.T).float()  # (n, M) or (n, R, M)
    return products if products.dim() == 2 else products.amax(1)
