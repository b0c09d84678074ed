"""Model soups (Wortsman et al., 2022): the mean of the weights of models that began alike and were trained apart, for
the price of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlsvc import __version__
from dlsvc.errors import UsageError
from dlsvc.store.bundle import Bundle, build_model
from dlsvc.store.checkpoint import weights_sha256
from dlsvc.store.models import ModelStore, check_model_name
from dlsvc.train.evaluate import evaluate_model
from dlsvc.train.saving import parameter_names


def soup(name: str, references: Sequence[str], home: Path) -> dict[str, Any]:
    """Publish the uniform soup of models under NAME, measured as its first ingredient was. Returns the model, its
    metrics, and those of the ingredients.

    Raises UsageError for fewer than two models, for models that differ in more than their weights, or for a wrong name.
    """
    check_model_name(name)
    store = ModelStore(home)
    bundles = [store.open(reference) for reference in references]
    _check(bundles)
    first = bundles[0]
    weights = mean_weights([bundle.weights() for bundle in bundles])
    model = build_model(first.config["model"])
    model.load_state_dict(weights, strict=True)
    metrics = evaluate_model(first, model.eval(), home)["metrics"] if first.config["spec"] else {}
    learned = parameter_names(model)
    lineage = {
        "run": "soup",
        "ingredients": {bundle.reference: bundle.digests["model.safetensors"] for bundle in bundles},
        "weights_sha256": weights_sha256({name: value for name, value in weights.items() if name in learned}),
        "versions": {"dlsvc": __version__, "torch": torch.__version__},
    }
    documents = {
        "config.json": first.config,
        "preprocess.json": first.preprocess,
        "metrics.json": metrics,
        "lineage.json": lineage,
    }
    return {
        "model": store.publish(name, weights, documents),
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


def _check(bundles: Sequence[Bundle]) -> None:
    if len(bundles) < 2:
        raise UsageError("a soup needs two models or more")
    first = bundles[0]
    for other in bundles[1:]:
        for what, one, two in (
            ("model", first.config["model"], other.config["model"]),
            ("task", first.config["task"], other.config["task"]),
            ("classes", first.classes, other.classes),
            ("preprocess", first.preprocess, other.preprocess),
        ):
            if one != two:
                where = _difference(one, two)
                raise UsageError(
                    f"{first.reference} and {other.reference} differ in {what}{where}: weights of one kind mix"
                )


def _difference(one: Any, two: Any) -> str:
    """The first place where two documents part, as a path."""
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        for key in sorted({*one, *two}):
            if one.get(key) != two.get(key):
                return f".{key}{_difference(one.get(key), two.get(key))}"
    return f" ({one!r:.60} against {two!r:.60})"
