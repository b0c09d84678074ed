"""A small AST with random weights, as transformers keeps it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from dlsvc.store.bundle import build_model
from dlsvc.store.interchange import export_directory
from dlsvc.store.preprocessors import PREPROCESSOR

LANGUAGES = ("en", "es", "fr", "it", "ru")
_ARGS: dict[str, Any] = {
    "num_bins": 32,
    "num_steps": 40,
    "d_model": 16,
    "num_layers": 2,
    "num_heads": 2,
    "num_classes": len(LANGUAGES),
}


def write_ast(folder: Path, **says: Any) -> Path:
    """The directory, with a preprocessor_config.json that `says` so much, or with none."""
    torch.manual_seed(0)
    model = build_model({"name": "audio_transformer", "args": _ARGS})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    weights = model.state_dict()
    export_directory(folder, "transformers", "audio_transformer", args=_ARGS, weights=weights, classes=LANGUAGES)
    if says:
        (folder / PREPROCESSOR).write_text(json.dumps(says))
    return folder
