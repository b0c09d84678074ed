"""Contrastive learning of images and texts: each image finds its text among all of the global batch, and the
reverse.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dlsvc.registry import register_task
from dlsvc.tasks.base import Batch, Losses, Metrics, Modules, Prediction, Report, Task, dummy_samples

_RANKS = (1, 5, 10)
# Rows of the similarity matrix held at a time.
_CHUNK = 1024


@register_task(
    "contrastive",
    metrics=("image_to_text_r1", "image_to_text_r*", "text_to_image_r*", "temperature"),
    reads=("image", "tokens", "attention_mask"),
    couples_samples=True,
)
class Contrastive(Task):
    """Symmetric cross-entropy over the similarities of a batch (Radford et al., 2021, figure 3).

    Metrics: image_to_text_rK and text_to_image_rK for K in 1, 5, 10 (the share of queries whose own partner is among
    the K nearest of the whole split), and temperature.
    """

    def features(self, modules: Modules, batch: Batch) -> dict[str, Tensor]:
        found: dict[str, Tensor] = modules["model"](batch["image"], batch["tokens"], batch.get("attention_mask"))
        return found

    def coupled_losses(self, features: dict[str, Tensor]) -> tuple[Losses, Report]:
        return contrast(features)

    def losses(self, modules: Modules, batch: Batch, phase: str) -> tuple[Losses, Report]:
        """The loss within this batch alone."""
        return self.coupled_losses(self.features(modules, batch))

    def measure(self, modules: Modules, batch: Batch, metrics: Metrics) -> None:
        found = self.features(modules, batch)
        metrics.collect(batch["id"], image_embeds=found["image_embeds"], text_embeds=found["text_embeds"])
        metrics.add(count=len(batch["id"]), temperature=len(batch["id"]) / found["logit_scale"].double())

    def compute(self, metrics: Metrics) -> dict[str, float]:
        return {"temperature": float(metrics.sums["temperature"] / metrics.sums["count"]), **recalls(metrics)}

    def predict(self, modules: Modules, batch: Batch) -> list[Prediction]:
        """The embedding of whichever inputs there are, and the scale that turns their products into logits."""
        found = modules["model"](batch.get("image"), batch.get("tokens"), batch.get("attention_mask"))
        scale = found["logit_scale"].item()
        rows: list[Prediction] = [{"logit_scale": scale} for _ in range(_length(batch))]
        for name in ("image_embed", "text_embed"):
            if f"{name}s" in found:
                for row, vector in zip(rows, found[f"{name}s"].cpu().numpy(), strict=True):
                    row[name] = vector
        return rows

    def vectors(self, modules: Modules, batch: Batch) -> Tensor:
        """The images' embeddings, or where there are none the texts': both lie in one space."""
        found = modules["model"](batch.get("image"), batch.get("tokens"), batch.get("attention_mask"))
        vectors: Tensor = found["image_embeds" if "image" in batch else "text_embeds"].float()
        return vectors

    def dummy_batch(self, num_samples: int, model_args: Mapping[str, Any]) -> Batch:
        """Random texts of different lengths: each ends at its end-of-text token, the rest is padding."""
        vision, text = model_args["vision"], model_args["text"]
        size, length, eos_id = vision["image_size"], text["max_seq_len"], text["eos_id"]
        lengths = torch.randint(2, length + 1, (num_samples, 1))
        places = torch.arange(length)
        words = torch.randint(eos_id + 1, text["vocab_size"], (num_samples, length))
        tokens = torch.where(places < lengths - 1, words, torch.where(places == lengths - 1, eos_id, 0))
        return {
            "image": torch.randn(num_samples, vision["in_channels"], size, size),
            "tokens": tokens,
            "attention_mask": places < lengths,
            **dummy_samples(num_samples),
        }


def contrast(features: dict[str, Tensor], chunk: int = _CHUNK) -> tuple[Losses, Report]:
    """The losses of both directions over embeddings of length 1, (N, E) each; those of images may be several, (N, Q,
    E), of which the nearest counts. Beyond `chunk` samples the N x N logits are made so many rows at a time, and again
    for the gradient: what is kept is N / chunk numbers a sample instead of N.
    """
    images, texts, scale = features["image_embeds"], features["text_embeds"], features["logit_scale"]
    if len(images) <= chunk:
        rows, columns, own, right = _logsums(scale, images, texts, 0)
    else:
        parts = [
            checkpoint(_logsums, scale, images[first : first + chunk], texts, first, use_reentrant=False)
            for first in range(0, len(images), chunk)
        ]
        rows, own, right = (torch.cat([part[place] for part in parts]) for place in (0, 2, 3))
        columns = torch.stack([part[1] for part in parts]).logsumexp(0)
    losses = {"image_to_text_loss": (rows - own).mean() / 2, "text_to_image_loss": (columns - own).mean() / 2}
    return losses, {"temperature": 1 / scale.detach(), "accuracy": right.mean()}


def _logsums(scale: Tensor, images: Tensor, texts: Tensor, first: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of the logits of some images, those from place `first` on, with all texts: the logsumexp of each row (n,) and of
    each column (N,), each image's logit with its own text, and whether that is its largest.
    """
    products = (images @ texts.T).float()  # (n, N) or (n, Q, N); under autocast sums of exponentials need more digits
    logits = scale * (products if products.dim() == 2 else products.amax(1))
    partner = first + torch.arange(len(logits), device=logits.device)
    own = logits.gather(1, partner[:, None])[:, 0]
    right = (logits.detach().argmax(1) == partner).float()
    return logits.logsumexp(1), logits.logsumexp(0), own, right


def recalls(metrics: Metrics) -> dict[str, float]:
    """How often a query's own partner is among the nearest, both ways, of the embeddings collected."""
    images, texts = metrics.rows("image_embeds"), metrics.rows("text_embeds")
    both = {"image_to_text": partner_ranks(images, texts), "text_to_image": partner_ranks(texts, images)}
    return {f"{name}_r{k}": float((ranks < k).mean()) for name, ranks in both.items() for k in _RANKS}


def partner_ranks(queries: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """How many targets come before a query's own, (N, E) and (N, E) -> (N,). Either may have several vectors each, of
    which the nearest counts: (N, Q, E). Among equals the first comes first, so a collapsed model scores as chance does.
    """
    places = np.arange(len(targets))
    found = []
    for first in range(0, len(queries), _CHUNK):
        similarity = _nearest(queries[first : first + _CHUNK].astype(np.float64), targets.astype(np.float64))  # (n, N)
        own = first + np.arange(len(similarity))
        mine = similarity[np.arange(len(similarity)), own][:, None]
        found.append(((similarity > mine) | ((similarity == mine) & (places < own[:, None]))).sum(1))
    return np.concatenate(found)


def _nearest(queries: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The largest product of each query's vectors with each target's, (n, N)."""
    if queries.ndim == 3:
        best: np.ndarray = np.stack([vectors @ targets.T for vectors in queries]).max(1)  # (n, Q, N) -> (n, N)
        return best
    if targets.ndim == 3:
        return _nearest(targets, queries).T
    products: np.ndarray = queries @ targets.T
    return products


def _length(batch: Batch) -> int:
    return len(batch["image"] if "image" in batch else batch["tokens"])
