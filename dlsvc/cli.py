"""The command `dlsvc`: verbs only. Each imports what it needs when it runs, so that `--help` answers at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from dlsvc import __version__
from dlsvc.cli_ask import capfilt, neighbors, predict
from dlsvc.cli_store import models, runs
from dlsvc.data.progress import say
from dlsvc.terminal import Shell, address_option, answer, blocks, device_option, json_option, prepare, table

_Verb = Callable[..., Any]


def _spec_arguments(verb: _Verb) -> _Verb:
    """SPEC and its overrides."""
    return click.argument("spec")(click.argument("overrides", nargs=-1, metavar="[path=value]...")(verb))


@click.group(cls=Shell, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="dlsvc")
def main() -> None:
    """Train and serve models from one spec file each, on this machine or on a Ray cluster."""


@main.command()
@_spec_arguments
@click.option("--build", is_flag=True, help="Also build the model and the task: what only they know; takes seconds.")
@json_option
def validate(spec: str, overrides: tuple[str, ...], build: bool, as_json: bool) -> None:
    """Check SPEC without running it: every problem at its file, line and column."""
    from dlsvc.spec.load import load
    from dlsvc.train.buildable import RULES

    found = load(spec, overrides, RULES if build else ())
    answer(
        {"status": "ok", "kind": found.kind, "name": found.name},
        as_json,
        f"{spec}: a sound {found.kind} spec, {found.name}",
    )


@main.command()
@_spec_arguments
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), default="yaml", show_default=True)
def render(spec: str, overrides: tuple[str, ...], output: str) -> None:
    """Print SPEC with every default filled in and everything that it leaves open settled."""
    from dlsvc.spec.load import complete, dump_yaml, load
    from dlsvc.spec.schema import TrainSpec

    found = load(spec, overrides)
    found = complete(found) if isinstance(found, TrainSpec) else found
    click.echo(json.dumps(found.dump()) if output == "json" else dump_yaml(found), nl=output == "json")


@main.command()
@click.argument("kind", required=False)
def schema(kind: str | None) -> None:
    """Print the JSON Schema of specs, for an editor: of KIND train, tune or serve, or of all."""
    from dlsvc.spec.jsonschema import json_schema

    click.echo(json.dumps(json_schema(kind), indent=2))


@main.command()
@json_option
def systems(as_json: bool) -> None:
    """List what can be trained: every model with its task, recipe, data and metric."""
    from dlsvc.spec.recipes import systems as rows

    found = rows()
    answer({"systems": found}, as_json, table(found, ("model", "task", "recipe", "data", "metric")))


@main.group()
def recipes() -> None:
    """The specs that come with dlsvc."""


@recipes.command("ls")
@json_option
def recipes_ls(as_json: bool) -> None:
    """List the recipes."""
    from dlsvc.spec.recipes import describe
    from dlsvc.spec.recipes import recipes as known

    rows = [describe(name, path) for name, path in known().items()]
    answer({"recipes": rows}, as_json, table(rows, ("recipe", "kind", "about")))


@recipes.command("show")
@click.argument("name")
def recipes_show(name: str) -> None:
    """Print a recipe."""
    from dlsvc.spec.recipes import find

    click.echo(find(name).read_text(encoding="utf-8"), nl=False)


@recipes.command("copy")
@click.argument("name")
@click.argument("target", metavar="DEST", type=click.Path(path_type=Path))
def recipes_copy(name: str, target: Path) -> None:
    """Copy a recipe to DEST, to change it there."""
    from dlsvc.spec.recipes import copy

    click.echo(str(copy(name, target)))


@main.group()
def augment() -> None:
    """Augmentations, for `data.augment`."""


@augment.command("ls")
@json_option
def augment_ls(as_json: bool) -> None:
    """List the augmentations with their parameters."""
    from dlsvc.augment.registry import describe

    rows = describe()
    answer({"augmentations": rows}, as_json, table(rows, ("modality", "name", "parameters", "about")))


@main.group()
def data() -> None:
    """Data sets of the catalog."""


@data.command("ls")
@json_option
def data_ls(as_json: bool) -> None:
    """List the catalog: data sets, and trained weights."""
    from dlsvc.data.show import ls, ls_weights
    from dlsvc.store.home import home

    sets, weights = ls(home()), ls_weights(home())
    shown = table([*sets, *weights], ("name", "kind", "modality", "counts", "pulled", "licence", "title"))
    answer({"data": sets, "weights": weights}, as_json, shown)


@data.command("pull")
@click.argument("name")
@json_option
def data_pull(name: str, as_json: bool) -> None:
    """Fetch a data set, checked against its pinned digest, and keep it."""
    from dlsvc.data.show import pull
    from dlsvc.store.home import home

    found = pull(name, home(), say)
    answer(found, as_json, blocks(found))


@data.command("show")
@click.argument("name", metavar="NAME|PATH")
@click.option("--grid", type=click.Path(path_type=Path), help="Draw the first samples as a PNG there.")
@click.option(
    "--augment", "asked", help="A train SPEC, or a list as it stands in one: draw samples beside their versions."
)
@click.option("--stats", is_flag=True, help="Also means, sizes and lengths.")
@json_option
def data_show(name: str, grid: Path | None, asked: str | None, stats: bool, as_json: bool) -> None:
    """Show what a data set of the catalog, or one of your own, holds."""
    from dlsvc.data.show import describe
    from dlsvc.store.home import home

    augmentations = _augmentations(asked, name) if asked else []
    found = describe(name, home(), grid, say, augmentations=augmentations, stats=stats)
    answer(found, as_json, blocks(found))


@data.command("index")
@click.argument("source", metavar="PATH|URI")
@click.option(
    "--format", "kind", default="auto", help="As data.format in a spec; by the names of the files by default."
)
@click.option("--column", "columns", multiple=True, metavar="FIELD=NAME", help="As data.columns in a spec.")
@json_option
def data_index(source: str, kind: str, columns: tuple[str, ...], as_json: bool) -> None:
    """Find out once what files of your own hold and where, so that runs open them at once."""
    from dlsvc.data.user import index_command
    from dlsvc.store.home import home

    found = index_command(source, home(), kind, columns, say)
    answer(found, as_json, blocks(found))


@data.command("pairs")
@click.argument("source", metavar="NAME|PATH")
@click.argument("target", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option("--vocab-size", type=click.IntRange(min=2), default=8000, show_default=True, help="Most frequent words.")
@click.option("--window", type=click.IntRange(min=1), default=8, show_default=True, help="Places to either side.")
@click.option("--min-count", type=float, default=1.0, show_default=True, help="Rarer pairs are left out.")
@address_option
@json_option
def data_pairs(source: str, target: Path, address: str | None, as_json: bool, **how: Any) -> None:
    """Count how often words stand near each other in a data set's texts, for GloVe."""
    prepare(None)
    from dlsvc.cluster import cluster
    from dlsvc.data.cooccurrence import count_pairs
    from dlsvc.store.home import home

    with cluster(address, cpus=2):
        found = count_pairs(source, target, home(), say=say, **how)
    answer(found, as_json, blocks(found))


@data.command("swap")
@click.argument("source", metavar="NAME|PATH")
@click.argument("target", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option("--share", type=click.FloatRange(0, 1), default=0.3, show_default=True, help="Of the training texts.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Which are drawn by it.")
@json_option
def data_swap(source: str, target: Path, share: float, seed: int, as_json: bool) -> None:
    """Write a data set of images and texts with some texts at other images, as the web has them."""
    from dlsvc.capfilt import swap_texts
    from dlsvc.store.home import home

    found = swap_texts(source, target, share, seed, home(), say)
    answer(found, as_json, blocks(found))


def _augmentations(asked: str, source: str) -> list[Any]:
    """Those of a spec's file, or of a list in YAML, checked as a spec's are."""
    from dlsvc.spec.load import load_kind, read_augmentations
    from dlsvc.spec.schema import TrainSpec
    from dlsvc.store.home import home
    from dlsvc.train.feeding import augmentations_of

    if asked.lstrip().startswith("["):
        return augmentations_of(read_augmentations(asked, source), home())
    return augmentations_of(load_kind(TrainSpec, asked, ()).data.augment, home())


@main.command()
@_spec_arguments
@click.option("--name", help="The run's name; the run of that name is resumed.")
@click.option("--with-needs", is_flag=True, help="First train what the spec starts from, where it isn't published.")
@address_option
@json_option
def train(
    spec: str, overrides: tuple[str, ...], name: str | None, with_needs: bool, address: str | None, as_json: bool
) -> None:
    """Train the model of SPEC and publish it. The same command resumes a run that was stopped."""
    from dlsvc.spec.load import load_kind
    from dlsvc.spec.schema import TrainSpec
    from dlsvc.train.buildable import RULES

    found = load_kind(TrainSpec, spec, overrides, RULES)
    prepare(found.storage)
    from dlsvc.train.launch import train as launch
    from dlsvc.train.needs import settle_needs

    settle_needs(found, make=with_needs, address=address)
    result = launch(found, run_name=name, address=address)
    answer(result, as_json, blocks(result))


@main.command()
@_spec_arguments
@click.option("--address", required=True, help="The cluster's dashboard, such as http://HEAD:8265.")
@click.option("--name", help="The run's name; the run of that name is resumed.")
@click.option("--follow", is_flag=True, help="Print what the job says until it ends.")
@json_option
def submit(spec: str, overrides: tuple[str, ...], address: str, name: str | None, follow: bool, as_json: bool) -> None:
    """Send SPEC to a cluster as a Ray job. Only the spec travels."""
    prepare(None)
    from dlsvc.train.submit import submit as send

    result = send(spec, overrides, address=address, run_name=name, follow=follow)
    answer(result, as_json, blocks(result))


@main.command()
@_spec_arguments
@address_option
@json_option
def tune(spec: str, overrides: tuple[str, ...], address: str | None, as_json: bool) -> None:
    """Run the trials of a tune SPEC and publish the best."""
    from dlsvc.spec.load import load_kind
    from dlsvc.spec.schema import TuneSpec
    from dlsvc.train.buildable import RULES

    found = load_kind(TuneSpec, spec, overrides, RULES)
    prepare(found.train.storage)
    from dlsvc.tune.search import tune as search

    result = search(found, address=address)
    answer(result, as_json, blocks(result))


@main.command()
@click.argument("reference", metavar="MODEL")
@click.option("--data", help="Another data set than the one of its spec, by name or path.")
@click.option("--split", help="Another split than the one of its spec.")
@click.option("--features", metavar="MODEL", help="Also how near its samples are to the data, in MODEL's vectors.")
@click.option("--samples", type=click.IntRange(min=8), help="How many samples; 2000 by default, at most the split.")
@click.option(
    "--confusion", type=click.Path(path_type=Path), help="Draw which class is taken for which as a PNG there."
)
@device_option
@json_option
def evaluate(reference: str, as_json: bool, **asked: Any) -> None:
    """Measure a published model on the data of its spec, or on other data."""
    from dlsvc.store.home import home
    from dlsvc.train.evaluate import evaluate_bundle

    found = evaluate_bundle(reference, home(), **asked)
    answer(found, as_json, blocks(found))


@main.command()
@click.argument("what", nargs=-1, metavar="MODEL...|SPEC")
@click.option("--host", help="The address to listen on; 127.0.0.1 by default.")
@click.option("--port", type=click.IntRange(1, 65535), help="The port to listen on; 8000 by default.")
@click.option("--gpu", type=click.FloatRange(0, 1), help="GPUs for each model's process; 0.25 lets four share one.")
@click.option("--detach", is_flag=True, help="Serve in the background, and return when every model answers.")
@address_option
@json_option
def serve(what: tuple[str, ...], as_json: bool, **asked: Any) -> None:
    """Answer for models over HTTP until interrupted."""
    prepare(None)
    from dlsvc.store.home import home
    from serving.command import serve_command

    found = serve_command(what, home=home(), **asked)
    answer(found, as_json, blocks(found))


@main.command()
@json_option
def doctor(as_json: bool) -> None:
    """Check this machine: packages, compilers, devices, storage, clients that data sets are pulled with."""
    prepare(None)
    from dlsvc.doctor import check
    from dlsvc.store.home import home

    found = check(home())
    answer(found, as_json, table(found["checks"], ("check", "status", "detail")))
    sys.exit(0 if found["status"] == "ok" else 1)


main.add_command(predict)
main.add_command(neighbors)
main.add_command(capfilt)
main.add_command(runs)
main.add_command(models)


if __name__ == "__main__":
    main()
