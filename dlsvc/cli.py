"""The command `dlsvc`: verbs only. Each imports what it needs when it runs, so that `--help` answers at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from dlsvc import __version__
from dlsvc.terminal import Shell, answer, blocks, say, table

_Verb = Callable[..., Any]


def _spec_arguments(verb: _Verb) -> _Verb:
    """SPEC and its overrides."""
    return click.argument("spec")(click.argument("overrides", nargs=-1, metavar="[path=value]...")(verb))


_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line of stdout.")
_address = click.option(
    "--address", envvar="RAY_ADDRESS", help="A running Ray cluster; without it one is started here."
)


@click.group(cls=Shell, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="dlsvc")
def main() -> None:
    """Train and serve models from one spec file each, on this machine or on a Ray cluster."""


@main.command()
@_spec_arguments
@_json
def validate(spec: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check SPEC without running it: every problem at its file, line and column."""
    from dlsvc.spec.load import load

    found = load(spec, overrides)
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
@_json
def systems(as_json: bool) -> None:
    """List what can be trained: every model with its task, recipe, data and metric."""
    from dlsvc.spec.recipes import systems as rows

    found = rows()
    answer(found, as_json, table(found, ("model", "task", "recipe", "data", "metric")))


@main.group()
def recipes() -> None:
    """The specs that come with dlsvc."""


@recipes.command("ls")
@_json
def recipes_ls(as_json: bool) -> None:
    """List the recipes."""
    from dlsvc.spec.recipes import describe
    from dlsvc.spec.recipes import recipes as known

    rows = [describe(name, path) for name, path in known().items()]
    answer(rows, as_json, table(rows, ("recipe", "kind", "about")))


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
@_json
def augment_ls(as_json: bool) -> None:
    """List the augmentations with their parameters."""
    from dlsvc.augment.registry import describe

    rows = describe()
    answer(rows, as_json, table(rows, ("modality", "name", "parameters", "about")))


@main.group()
def data() -> None:
    """Data sets of the catalog."""


@data.command("ls")
@_json
def data_ls(as_json: bool) -> None:
    """List the catalog."""
    from dlsvc.data.show import ls
    from dlsvc.store.home import home

    rows = ls(home())
    answer(rows, as_json, table(rows, ("name", "title", "counts", "licence", "pulled")))


@data.command("pull")
@click.argument("name")
@_json
def data_pull(name: str, as_json: bool) -> None:
    """Fetch a data set, checked against its pinned digest, and keep it."""
    from dlsvc.data.show import pull
    from dlsvc.store.home import home

    found = pull(name, home(), say)
    answer(found, as_json, blocks(found))


@data.command("show")
@click.argument("name", metavar="NAME|PATH")
@click.option("--grid", type=click.Path(path_type=Path), help="Draw the first pictures as a PNG there.")
@_json
def data_show(name: str, grid: Path | None, as_json: bool) -> None:
    """Show what a data set of the catalog, or one of your own, holds."""
    from dlsvc.data.show import describe
    from dlsvc.store.home import home

    found = describe(name, home(), grid, say)
    answer(found, as_json, blocks(found))


@main.command()
@_spec_arguments
@click.option("--name", help="The run's name; the run of that name is resumed.")
@_address
@_json
def train(spec: str, overrides: tuple[str, ...], name: str | None, address: str | None, as_json: bool) -> None:
    """Train the model of SPEC and publish it. The same command resumes a run that was stopped."""
    from dlsvc.spec.load import load_kind
    from dlsvc.spec.schema import TrainSpec

    found = load_kind(TrainSpec, spec, overrides)
    _prepare(found.storage)
    from dlsvc.train.launch import train as launch

    result = launch(found, run_name=name, address=address, show_progress=sys.stderr.isatty())
    answer(result, as_json, blocks(result))


@main.command()
@_spec_arguments
@click.option("--address", required=True, help="The cluster's dashboard, such as http://HEAD:8265.")
@click.option("--name", help="The run's name; the run of that name is resumed.")
@click.option("--follow", is_flag=True, help="Print what the job says until it ends.")
@_json
def submit(spec: str, overrides: tuple[str, ...], address: str, name: str | None, follow: bool, as_json: bool) -> None:
    """Send SPEC to a cluster as a Ray job. Only the spec travels."""
    _prepare(None)
    from dlsvc.train.submit import submit as send

    result = send(spec, overrides, address=address, run_name=name, follow=follow)
    answer(result, as_json, blocks(result))


@main.command()
@_spec_arguments
@_address
@_json
def tune(spec: str, overrides: tuple[str, ...], address: str | None, as_json: bool) -> None:
    """Run the trials of a tune SPEC and publish the best."""
    from dlsvc.spec.load import load_kind
    from dlsvc.spec.schema import TuneSpec

    found = load_kind(TuneSpec, spec, overrides)
    _prepare(found.train.storage)
    from dlsvc.tune.search import tune as search

    result = search(found, address=address, show_progress=sys.stderr.isatty())
    answer(result, as_json, blocks(result))


@main.group()
def runs() -> None:
    """Runs, past and present."""


@runs.command("ls")
@_json
def runs_ls(as_json: bool) -> None:
    """List the runs."""
    store = _runs()
    rows = [store.open(name).summary() for name in store.names()]
    answer(rows, as_json, table(rows, ("run", "status", "model", "data", "strategy", "step", "loss", "restarts")))


@runs.command("show")
@click.argument("name", metavar="RUN")
@_json
def runs_show(name: str, as_json: bool) -> None:
    """Show a run: its state, its result and its spec."""
    run = _runs().open(name)
    found = {**run.summary(), "result": run.read("result.json"), "spec": run.read("spec.json")}
    answer(found, as_json, blocks(found))


@runs.command("logs")
@click.argument("name", metavar="RUN")
def runs_logs(name: str) -> None:
    """Print what a run's workers said."""
    for record in _runs().open(name).lines("log.txt"):
        click.echo(json.dumps(record))


@runs.command("cancel")
@click.argument("name", metavar="RUN")
@_json
def runs_cancel(name: str, as_json: bool) -> None:
    """Stop a run at its next report. Its checkpoints stay, so that it can be resumed."""
    run = _runs().cancel(name)
    answer({"run": run.name, "status": "cancelling"}, as_json, f"{run.name} stops at its next report")


@runs.command("resume")
@click.argument("name", metavar="RUN")
@_address
@_json
def runs_resume(name: str, address: str | None, as_json: bool) -> None:
    """Go on with a run from its newest good checkpoint."""
    from dlsvc.spec.load import parse

    spec: Any = parse(_runs().open(name).read("spec.json"))
    _prepare(spec.storage)
    from dlsvc.train.launch import train as launch

    result = launch(spec, run_name=name, address=address, show_progress=sys.stderr.isatty())
    answer(result, as_json, blocks(result))


@main.group()
def models() -> None:
    """Published models."""


@models.command("ls")
@_json
def models_ls(as_json: bool) -> None:
    """List every version of every model."""
    rows = _models().table()
    answer(rows, as_json, table(rows, ("model", "aliases", "task", "metrics")))


@models.command("show")
@click.argument("reference", metavar="MODEL")
@_json
def models_show(reference: str, as_json: bool) -> None:
    """Show a model: its metrics, where it comes from, its files."""
    found = _models().describe(reference)
    answer(found, as_json, blocks(found))


@models.command("alias")
@click.argument("reference", metavar="MODEL")
@click.argument("alias")
@_json
def models_alias(reference: str, alias: str, as_json: bool) -> None:
    """Point ALIAS at a version, such as `models alias lenet5-digits@3 prod`."""
    found = _models().alias(reference, alias)
    answer({"model": found, "alias": alias}, as_json, f"{found} is {alias}")


@main.command()
@click.argument("reference", metavar="MODEL")
@click.option("--split", help="Another split than the one of its spec.")
@_json
def evaluate(reference: str, split: str | None, as_json: bool) -> None:
    """Measure a published model on the data of its spec."""
    from dlsvc.store.home import home
    from dlsvc.train.evaluate import evaluate_bundle

    found = evaluate_bundle(reference, home(), split=split)
    answer(found, as_json, blocks(found))


@main.command()
@click.argument("what", nargs=-1, metavar="MODEL...|SPEC")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@_address
def serve(what: tuple[str, ...], host: str, port: int, address: str | None) -> None:
    """Answer for models over HTTP until interrupted."""
    _prepare(None)
    from dlsvc.spec.load import load_kind
    from dlsvc.spec.schema import ServeSpec
    from dlsvc.store.home import home
    from serving.run import serve_forever, spec_of

    is_file = len(what) == 1 and what[0].endswith((".yaml", ".yml"))
    spec = load_kind(ServeSpec, what[0]) if is_file else spec_of(what, host, port)
    serve_forever(spec, home(), address=address)


def _prepare(storage: str | None) -> None:
    """Before anything imports Ray."""
    from dlsvc.environment import prepare
    from dlsvc.store.home import home

    prepare(home(storage))


def _runs() -> Any:
    from dlsvc.store.home import home
    from dlsvc.store.runs import RunStore

    return RunStore(home())


def _models() -> Any:
    from dlsvc.store.home import home
    from dlsvc.store.models import ModelStore

    return ModelStore(home())


if __name__ == "__main__":
    main()
