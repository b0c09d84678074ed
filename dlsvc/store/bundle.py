"""A bundle: what training publishes, serving loads, and all that they share.

    model.safetensors   weights under the model's own names
    config.json         model, task, classes, the resolved spec
    preprocess.json     how raw input becomes a batch; tokenizer included
    metrics.json        as evaluated, on exactly these weights
    lineage.json        run, data fingerprint, versions, bundles that it started from
    DIGESTS.json        sha256 of each of the others; checked at every load

safetensors and JSON only: nothing in a bundle is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from dlsvc.errors import DlsvcError, NotFound
from dlsvc.nn.convolution import guard
from dlsvc.nn.ensemble import Ensemble
from dlsvc.registry import resolve
from dlsvc.store.checkpoint import sync
from dlsvc.tasks.base import Task

DIGESTS = "DIGESTS.json"
WEIGHTS = "model.safetensors"
# The name of models that no spec can ask for: they are put together of published ones.
ENSEMBLE = "ensemble"
CONFIG, PREPROCESS, METRICS, LINEAGE = "config.json", "preprocess.json", "metrics.json", "lineage.json"


class BrokenBundle(DlsvcError):
    """A bundle's file is missing or not what was published."""

    exit_code = 100


def write_bundle(target: Path, weights: Mapping[str, Tensor], documents: Mapping[str, Any]) -> None:
    """Write a new bundle and make it durable; the digests come last."""
    target.mkdir(parents=True)
    files = {
        WEIGHTS: save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in sorted(weights.items())})
    }
    files |= {
        name: (json.dumps(document, indent=1, sort_keys=True) + "\n").encode() for name, document in documents.items()
    }
    digests = {name: hashlib.sha256(body).hexdigest() for name, body in files.items()}
    files[DIGESTS] = (json.dumps(digests, indent=1, sort_keys=True) + "\n").encode()
    for name, body in files.items():
        (target / name).write_bytes(body)
        sync(target / name)
    sync(target)


@dataclass(frozen=True)
class Bundle:
    """A published model, verified when opened."""

    path: Path
    reference: str
    config: dict[str, Any]
    preprocess: dict[str, Any]
    metrics: dict[str, Any]
    lineage: dict[str, Any]
    digests: dict[str, str]

    @classmethod
    def open(cls, path: Path, reference: str = "") -> Bundle:
        """Read and check every file. Raises NotFound, or BrokenBundle naming the file."""
        digests = _digests(path)
        for name, expected in digests.items():
            _check(path / name, expected)
        config, preprocess, metrics, lineage = (
            _document(path, name) for name in (CONFIG, PREPROCESS, METRICS, LINEAGE)
        )
        return cls(path, reference, config, preprocess, metrics, lineage, digests)

    def weights(self) -> dict[str, Tensor]:
        try:
            found: dict[str, Tensor] = load_tensors((self.path / WEIGHTS).read_bytes())
        except SafetensorError as error:
            raise BrokenBundle(f"{self.path / WEIGHTS}: {error}") from error
        return found

    def model(self) -> nn.Module:
        """The model with its weights, ready to answer."""
        return ready_model(self.config["model"], self.weights())

    def task(self) -> Task:
        return build_task(self.config["task"])

    @property
    def classes(self) -> list[str]:
        return list(self.config.get("classes", []))


def skim(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A bundle's config and metrics, whatever its weights weigh: of those only that they are there is checked. Raises
    NotFound, or BrokenBundle naming the file.
    """
    digests = _digests(path)
    for name in digests:
        _require(path / name)
    for name in (CONFIG, METRICS):
        _check(path / name, digests.get(name, ""))
    return _document(path, CONFIG), _document(path, METRICS)


def build_model(part: Mapping[str, Any]) -> nn.Module:
    """A model from `{name, args}`; an ensemble from those of its members."""
    if part["name"] == ENSEMBLE:
        return Ensemble([build_model(member) for member in part["args"]["members"]])
    return guard(resolve("model", part["name"]).load()(**_tupled(part["args"])))


def ready_model(part: Mapping[str, Any], weights: Mapping[str, Tensor]) -> nn.Module:
    """A model from `{name, args}` with weights, in eval mode. The filters of images lie as those do, channels last: a
    convolution would copy them at every call otherwise.
    """
    model = build_model(part)
    model.load_state_dict(weights, strict=True)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.eval()


def build_task(part: Mapping[str, Any]) -> Task:
    """A task from `{name, args}`."""
    task: Task = resolve("task", part["name"]).load()(**_tupled(part["args"]))
    return task


def _tupled(args: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has lists where signatures say tuple."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in args.items()}


def _digests(path: Path) -> dict[str, str]:
    if not (path / DIGESTS).is_file():
        raise NotFound(f"{path} holds no bundle: {DIGESTS} is missing")
    return _document(path, DIGESTS)


def _document(path: Path, name: str) -> dict[str, Any]:
    try:
        return dict(json.loads((path / name).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise BrokenBundle(f"{path / name}: unreadable ({error})") from error


def _require(path: Path) -> None:
    if not path.is_file():
        raise BrokenBundle(f"{path}: missing, DIGESTS.json lists it")


def _check(path: Path, expected: str) -> None:
    _require(path)
    with path.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != expected:
            raise BrokenBundle(f"{path}: sha256 differs from DIGESTS.json; the file was changed after it was published")
