"""Published models out to other libraries' directories, and their directories in as published models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dlsvc import __version__
from dlsvc.data import convert
from dlsvc.data.catalog import CatalogEntry
from dlsvc.data.preprocess import ImageInput, Preprocess
from dlsvc.errors import UsageError
from dlsvc.registry import resolve
from dlsvc.store.bundle import CONFIG, LINEAGE, METRICS, PREPROCESS, Bundle, build_model
from dlsvc.store.checkpoint import weights_sha256
from dlsvc.store.interchange import Imported, export_directory, import_directory
from dlsvc.store.keymaps import import_weights
from dlsvc.store.models import ModelStore

# Trained weights of the catalog: the layout that they are in, the model's arguments, the file.
_TRAINED: dict[str, tuple[str, dict[str, Any], str]] = {
    "efficientnet-lite0": ("efficientnet-pytorch/efficientnet", {}, "efficientnet-lite0-57934424.pth"),
}


def export_bundle(bundle: Bundle, target: Path, library: str) -> None:
    """Write a published model so that `library` loads it from `target`."""
    model = bundle.config["model"]
    args: dict[str, Any] = model["args"]
    export_directory(target, library, model["name"], args=args, weights=bundle.weights(), classes=bundle.classes)


def import_bundle(store: ModelStore, source: Path, name: str) -> str:
    """Publish the model of a directory; it can be served, exported and started from. Returns `name@version`."""
    found = import_directory(source)
    return _publish(store, found, name, origin=source.name, preprocess=_preprocess(found.args, found.classes))


def import_trained(store: ModelStore, entry: CatalogEntry, home: Path, name: str) -> str:
    """Publish trained weights of the catalog, pulled first. Returns `name@version`."""
    if entry.name not in _TRAINED:
        raise UsageError(f"no model here takes the weights {entry.name}; there is one for: {', '.join(_TRAINED)}")
    layout, args, file = _TRAINED[entry.name]
    # weights_only: nothing but tensors is read from the pickle.
    theirs = torch.load(convert.pull(entry, home) / file, map_location="cpu", weights_only=True)
    found = Imported(layout.split("/")[1], args, import_weights(layout, theirs), ())
    assert entry.image_size is not None
    assert entry.channels is not None
    image = ImageInput(entry.image_size, entry.channels, entry.mean, entry.std)
    return _publish(store, found, name, origin=entry.name, preprocess=Preprocess(image=image))


def _publish(store: ModelStore, found: Imported, name: str, *, origin: str, preprocess: Preprocess) -> str:
    model = {"name": found.model, "args": found.args}
    # Loading checks every name and shape before anything is published.
    build_model(model).load_state_dict(found.weights, strict=True)
    task = {"name": resolve("model", found.model).options["task"], "args": {}}
    config = {"schema": 1, "model": model, "task": task, "classes": list(found.classes), "spec": None}
    lineage = {
        "run": f"import of {origin}",
        "identity": None,
        "weights_sha256": weights_sha256(found.weights),
        "versions": {"dlsvc": __version__},
    }
    documents = {CONFIG: config, PREPROCESS: preprocess.to_json(), METRICS: {}, LINEAGE: lineage}
    return store.publish(name, found.weights, documents)


def _preprocess(args: dict[str, Any], classes: tuple[str, ...]) -> Preprocess:
    """Images as the model takes them, from [-1, 1]: weights say nothing of what they were trained on."""
    part = args.get("vision", args)
    if "image_size" not in part:
        raise UsageError("only models that read images can be imported so far")
    channels = int(part.get("in_channels", 3))
    half = (0.5,) * channels
    return Preprocess(image=ImageInput(int(part["image_size"]), channels, half, half), classes=classes)
