"""Chained runs: what a spec starts from must be published, or is made first."""

from __future__ import annotations

from pathlib import Path

from dlsvc.augment.registry import resolve
from dlsvc.data.catalog import trained_weights
from dlsvc.errors import NotFound
from dlsvc.spec.load import load_kind
from dlsvc.spec.recipes import recipes
from dlsvc.spec.schema import TrainSpec
from dlsvc.store.exchange import import_trained
from dlsvc.store.home import home as home_of
from dlsvc.store.models import ModelStore


def settle_needs(spec: TrainSpec, *, make: bool, address: str | None) -> list[str]:
    """Check that every bundle that a spec names is published; with `make`, train the recipe of each missing one first.
    Trained weights of the catalog are pulled and published under their own name, as data sets are pulled.

    Raises NotFound with the command that makes a missing one. Returns what was made.
    """
    store = ModelStore(home_of(spec.storage))
    made = []
    for reference, field in sorted(_named(spec).items()):
        try:
            store.resolve(reference)
        except NotFound as error:
            if reference in trained_weights():
                made.append(import_trained(store, trained_weights()[reference], home_of(spec.storage), reference))
                continue
            recipe = recipe_of(reference.partition("@")[0])
            if recipe is None:
                raise NotFound(f"{field}: {error}; no recipe publishes it") from error
            if not make:
                hint = f"`dlsvc train {recipe}` makes it, and --with-needs makes it first"
                raise NotFound(f"{field}: no model {reference!r} is published; {hint}") from error
            made.append(_make(recipe, reference, spec, address))
    return made


def _named(spec: TrainSpec) -> dict[str, str]:
    """The bundles that a spec names, and the field that does."""
    named = dict.fromkeys(spec.init_from.values(), "init_from")
    for place, augmentation in enumerate(spec.data.augment):
        if "predict" in getattr(resolve(augmentation.name).load(), "needs", ()):
            models = {field: augmentation.parameters.get(field) for field in ("model", "back")}
            named |= {model: f"data.augment[{place}].{field}" for field, model in models.items() if model}
    return named | ({spec.evaluate.fidelity.features: "evaluate.fidelity"} if spec.evaluate.fidelity else {})


def recipe_of(name: str) -> Path | None:
    """The train recipe that publishes a model of that name."""
    for path in recipes().values():
        if path.parent.name in ("tune", "serve"):
            continue
        found = load_kind(TrainSpec, str(path))
        if (found.publish.name or found.name) == name:
            return path
    return None


def _make(recipe: Path, reference: str, wanted_by: TrainSpec, address: str | None) -> str:
    from dlsvc.train.launch import train

    alias = reference.partition("@")[2]
    overrides = [f"storage={wanted_by.storage}"] if wanted_by.storage else []
    if alias and not alias.isdigit():
        overrides.append(f"publish.alias={alias}")
    spec = load_kind(TrainSpec, str(recipe), overrides)
    settle_needs(spec, make=True, address=address)
    return str(train(spec, address=address)["model"])
