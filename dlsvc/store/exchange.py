"""Published models out to other libraries' directories, and their directories in as published models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dlsvc import __version__
from dlsvc.data.preprocess import ImageInput, Preprocess
from dlsvc.errors import UsageError
from dlsvc.registry import resolve
from dlsvc.store.bundle import CONFIG, LINEAGE, METRICS, PREPROCESS, Bundle, build_model
from dlsvc.store.checkpoint import weights_sha256
from dlsvc.store.interchange import export_directory, import_directory
from dlsvc.store.models import ModelStore


def export_bundle(bundle: Bundle, target: Path, library: str) -> None:
    """Write a published model so that `library` loads it from `target`."""
    model = bundle.config["model"]
    args: dict[str, Any] = model["args"]
    export_directory(target, library, model["name"], args=args, weights=bundle.weights(), classes=bundle.classes)


def import_bundle(store: ModelStore, source: Path, name: str) -> str:
    """Publish the model of a directory; it can be served, exported and started from. Returns `name@version`."""
    found = import_directory(source)
    model = {"name": found.model, "args": found.args}
    # Loading checks every name and shape before anything is published.
    build_model(model).load_state_dict(found.weights, strict=True)
    task = {"name": resolve("model", found.model).options["task"], "args": {}}
    config = {"schema": 1, "model": model, "task": task, "classes": list(found.classes), "spec": None}
    lineage = {
        "run": f"import of {source.name}",
        "identity": None,
        "weights_sha256": weights_sha256(found.weights),
        "versions": {"dlsvc": __version__},
    }
    preprocess = _preprocess(found.args, found.classes).to_json()
    documents = {CONFIG: config, PREPROCESS: preprocess, METRICS: {}, LINEAGE: lineage}
    return store.publish(name, found.weights, documents)


def _preprocess(args: dict[str, Any], classes: tuple[str, ...]) -> Preprocess:
    """Images as the model takes them, from [-1, 1]: weights say nothing of what they were trained on."""
    part = args.get("vision", args)
    if "image_size" not in part:
        raise UsageError("only models that read images can be imported so far")
    channels = int(part.get("in_channels", 3))
    half = (0.5,) * channels
    return Preprocess(image=ImageInput(int(part["image_size"]), channels, half, half), classes=classes)
