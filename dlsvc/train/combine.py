"""Published models put together: soups, the mean of the weights of models that began alike and were trained apart, for
the price of one (Wortsman et al. 2022); and ensembles, the mean of what models of any kind answer, for that of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlsvc import __version__
from dlsvc.errors import UsageError
from dlsvc.store.bundle import ENSEMBLE, Bundle, ready_model
from dlsvc.store.checkpoint import weights_sha256
from dlsvc.store.models import ModelStore, check_model_name
from dlsvc.train.evaluate import evaluate_model
from dlsvc.train.saving import parameter_names


def soup(name: str, references: Sequence[str], home: Path) -> dict[str, Any]:
    """Publish the uniform soup of models under NAME, measured as its first ingredient was. Returns the model, its
    metrics, and those of the ingredients.

    Raises UsageError for fewer than two models, for models that differ in more than their weights, or for a wrong name.
    """
    bundles = _opened(name, references, home)
    _check(bundles, ("model", "task", "classes", "preprocess"), "weights of one kind mix")
    weights = mean_weights([bundle.weights() for bundle in bundles])
    return _published(name, "soup", bundles, bundles[0].config["model"], weights, home)


def ensemble(name: str, references: Sequence[str], home: Path) -> dict[str, Any]:
    """Publish the ensemble of classifiers under NAME, measured as its first member was. Returns the model, its metrics,
    and those of the members.

    Raises UsageError for fewer than two models, for models that read or tell apart other things, or for a wrong name.
    """
    bundles = _opened(name, references, home)
    task = bundles[0].config["task"]["name"]
    if task != "classification":
        raise UsageError(f"{bundles[0].reference} is of task {task}; ensembles are of classification")
    _check(bundles, ("task.name", "classes", "preprocess"), "members answer one question")
    weights = {
        f"members.{place}.{key}": value
        for place, bundle in enumerate(bundles)
        for key, value in bundle.weights().items()
    }
    part = {"name": ENSEMBLE, "args": {"members": [bundle.config["model"] for bundle in bundles]}}
    return _published(name, "ensemble", bundles, part, weights, home)


def _opened(name: str, references: Sequence[str], home: Path) -> list[Bundle]:
    check_model_name(name)
    if len(references) < 2:
        raise UsageError(f"{name} is to be made of two models or more")
    return [ModelStore(home).open(reference) for reference in references]


def _published(
    name: str, how: str, bundles: Sequence[Bundle], part: Mapping[str, Any], weights: dict[str, Tensor], home: Path
) -> dict[str, Any]:
    """Measure and store what was made of bundles."""
    first = bundles[0]
    model = ready_model(part, weights)
    metrics = evaluate_model(first, model, home)["metrics"] if first.config["spec"] else {}
    learned = parameter_names(model)
    lineage = {
        "run": how,
        "ingredients": {bundle.reference: bundle.digests["model.safetensors"] for bundle in bundles},
        "weights_sha256": weights_sha256({name: value for name, value in weights.items() if name in learned}),
        "versions": {"dlsvc": __version__, "torch": torch.__version__},
    }
    documents = {
        "config.json": {**first.config, "model": part},
        "preprocess.json": first.preprocess,
        "metrics.json": metrics,
        "lineage.json": lineage,
    }
    return {
        "model": ModelStore(home).publish(name, weights, documents),
        "metrics": metrics,
        "ingredients": {bundle.reference: bundle.metrics for bundle in bundles},
        "weights_sha256": lineage["weights_sha256"],
    }


def mean_weights(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each tensor, summed in 64 bits; whole numbers, such as counts of batches, are the first one's."""
    return {
        name: torch.stack([part[name].double() for part in parts]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in parts[0].items()
    }


def _check(bundles: Sequence[Bundle], alike: Sequence[str], why: str) -> None:
    """Raises UsageError for the first of what must be alike that isn't."""
    first, *others = bundles
    for other in others:
        for what in alike:
            one, two = _part(first, what), _part(other, what)
            if one != two:
                where = _difference(one, two)
                raise UsageError(f"{first.reference} and {other.reference} differ in {what}{where}: {why}")


def _part(bundle: Bundle, what: str) -> Any:
    parts = {**bundle.config, "task.name": bundle.config["task"]["name"]}
    return (parts | {"preprocess": bundle.preprocess, "classes": bundle.classes})[what]


def _difference(one: Any, two: Any) -> str:
    """The first place where two documents part, as a path."""
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        for key in sorted({*one, *two}):
            if one.get(key) != two.get(key):
                return f".{key}{_difference(one.get(key), two.get(key))}"
    return f" ({one!r:.60} against {two!r:.60})"
