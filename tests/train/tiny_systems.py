"""Every other model at its tiny size on data that it could be trained on: for what must hold of all of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dlsvc.registry import entries, resolve

_HALF = [0.5, 0.5, 0.5]
_FILMS = {"source": "wesnoth", "limit": 64, "video": {"frames": 4, "size": 16, "mean": [0.48], "std": [0.13]}}
_PAIRS = {
    "source": "shapes",
    "limit": 512,
    "image": {"size": 16, "channels": 3, "mean": _HALF, "std": _HALF},
    "text": {"tokenizer": "character", "vocab_size": 32, "max_seq_len": 8},
}


def _texts(source: str = "wordnet", **more: Any) -> dict[str, Any]:
    return {"source": source, "limit": 2000, "text": {"tokenizer": "character", **more}}


def _images(size: int, source: str = "digits", channels: int = 1, **more: Any) -> dict[str, Any]:
    image = {"size": size, "channels": channels, "mean": _HALF[:channels], "std": _HALF[:channels]}
    return {"source": source, "image": image, **more}


def _unit_images(size: int) -> dict[str, Any]:
    """In [0, 1], as likelihoods of pixels have them."""
    return {"source": "digits", "image": {"size": size, "mean": [0.0], "std": [1.0]}}


def _sounds(hop: int) -> dict[str, Any]:
    audio = {"sample_rate": 8000, "seconds": 0.5, "features": "log-mel", "bins": 16, "window": 256, "hop": hop}
    return {"source": "asterisk", "limit": 128, "audio": audio}


# Counted pairs of words, as `dlsvc data pairs` writes them: no data set of the catalog has them.
PAIRS = Path(os.environ.get("DLSVC_TEST_HOME") or "~/.cache/dlsvc-tests").expanduser() / "tiny-pairs"
_PAIRED_WORDS = 28


def write_pairs() -> None:
    """Every pair of 28 words, with counts that fall with their ranks; nothing happens when they are there."""
    if (PAIRS / "test.parquet").exists():
        return
    ranks = np.arange(1, _PAIRED_WORDS + 1)
    counts = (100 / np.multiply.outer(ranks, ranks)).astype(np.float32).ravel()
    words = [f"word{rank:02}" for rank in ranks]
    texts = [f"{one} {other}" for one in words for other in words]
    PAIRS.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        pq.write_table(pa.table({"text": texts, "count": counts}), PAIRS / f"{split}.parquet")


_TEXT = {"vocab_size": 32, "max_seq_len": 8}
_STEPS = 20
# The data of each model, and what its tiny size must be told of it.
_SPECS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "audio_cnn": (_sounds(hop=160), {"num_classes": 5}),
    "audio_transformer": (_sounds(hop=4000 // (_STEPS - 1)), {"num_classes": 5, "num_steps": _STEPS}),
    "autoencoder": (_unit_images(8), {}),
    # Letters alone, which begin words and go on with them, are most of these pieces.
    "bert": (_texts(**{**_TEXT, "vocab_size": 128}, tokenizer="wordpiece"), {"vocab_size": 128}),
    "blip2": (_PAIRS, {}),
    "blip2_qformer": (_PAIRS, {}),
    "ddpm": (_images(8), {"in_channels": 1, "num_classes": 10}),
    "efficientnet": (_images(16), {"num_classes": 10}),
    "glove": (
        {
            "source": str(PAIRS),
            "standardise": False,
            "columns": {"features": ["count"]},
            "text": {"tokenizer": "word", "vocab_size": 32, "max_seq_len": 4},
        },
        {},
    ),
    "gpt2": (_texts(**_TEXT), {}),
    "kl_autoencoder": (_unit_images(8), {}),
    "latent_diffusion": (_images(8, text={"prompt": "a {label}", "tokenizer": "character", **_TEXT}), {}),
    "llama": (_texts(**_TEXT), {}),
    "mlp": ({"source": "iris"}, {"in_features": 4}),
    "perceptron": ({"source": "iris", "positive": "setosa"}, {}),
    "segnet": (_images(16, "nuclei", 3), {"num_classes": 2, "in_channels": 3}),
    "series_cnn": ({"source": "watch"}, {"in_channels": 6, "num_classes": 7}),
    "series_transformer": ({"source": "watch"}, {"in_channels": 6, "num_classes": 7, "num_steps": 200}),
    "similarity": ({"source": "iris"}, {"in_features": 4}),
    "srgan": (_images(16, "emoji", 3, limit=512), {}),
    "srresnet": (_images(16, "emoji", 3, limit=512), {}),
    "temporal_segment": (_FILMS, {"num_classes": 4}),
    "text_classifier": (_texts(**_TEXT), {"num_classes": 4}),
    "transformer": (_texts("libreoffice-en-fr", target="target_text", **_TEXT), {}),
    "vgg16": (_images(32), {"num_classes": 10}),
    "video_cnn": (_FILMS, {"num_classes": 4}),
    "video_transformer": (_FILMS, {"num_classes": 4}),
    "word2vec": (_texts(**_TEXT, tokenizer="word"), {}),
}


def _spec(name: str) -> dict[str, Any]:
    data, args = _SPECS[name]
    tiny = resolve("model", name).options["tiny"]
    return {"model": {"name": name, "args": {**tiny, **args}}, "data": data}


TINY = {name: _spec(name) for name in _SPECS}
# Some parameters of a model this small and young change nothing, such as a shift before a convolution and a batch norm:
# their gradients are rounding, which Adam would blow up to full steps. And sixteen batch norms of eight samples each
# double a difference from layer to layer, at a larger rate from step to step.
for _name in ("blip2_qformer", "efficientnet", "vgg16"):
    TINY[_name]["optim"] = {"name": "sgd", "lr": 1e-3}
TINY["ddpm"]["optim"] = {"ema_decay": 0.9}
TINY["srgan"]["optim"] = {"phases": {"discriminator": {"lr": 1e-4}, "generator": {"lr": 1e-4, "ema_decay": 0.9}}}


def missing(others: set[str]) -> set[str]:
    """Registered models that neither these nor the others are of."""
    return set(entries("model")) - set(TINY) - others
