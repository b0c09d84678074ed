"""The verbs `dlsvc runs` and `dlsvc models`: what is on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dlsvc.terminal import address_option, answer, blocks, json_option, prepare, table


@click.group()
def runs() -> None:
    """Runs, past and present."""


@runs.command("ls")
@json_option
def runs_ls(as_json: bool) -> None:
    """List the runs."""
    store = _runs()
    rows = [store.open(name).summary() for name in store.names()]
    answer(
        {"runs": rows}, as_json, table(rows, ("run", "status", "model", "data", "strategy", "step", "loss", "restarts"))
    )


@runs.command("show")
@click.argument("name", metavar="RUN")
@json_option
def runs_show(name: str, as_json: bool) -> None:
    """Show a run: its state, its result and its spec."""
    run = _runs().open(name)
    found = {**run.summary(), "result": run.read("result.json"), "spec": run.read("spec.json")}
    answer(found, as_json, blocks(found))


@runs.command("logs")
@click.argument("name", metavar="RUN")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
def runs_logs(name: str, follow: bool) -> None:
    """Print what a run wrote down: starts, metrics, evaluations, bad samples, faults."""
    for line in _runs().open(name).story(follow=follow):
        click.echo(line)


@runs.command("cancel")
@click.argument("name", metavar="RUN")
@json_option
def runs_cancel(name: str, as_json: bool) -> None:
    """Stop a run at its next report. Its checkpoints stay, so that it can be resumed."""
    run = _runs().cancel(name)
    answer({"run": run.name, "status": "cancelling"}, as_json, f"{run.name} stops at its next report")


@runs.command("resume")
@click.argument("name", metavar="RUN")
@address_option
@json_option
def runs_resume(name: str, address: str | None, as_json: bool) -> None:
    """Go on with a run from its newest good checkpoint."""
    from dlsvc.spec.load import parse

    spec: Any = parse(_runs().open(name).read("spec.json"))
    prepare(spec.storage)
    from dlsvc.train.launch import train as launch

    result = launch(spec, run_name=name, address=address)
    answer(result, as_json, blocks(result))


@click.group()
def models() -> None:
    """Published models."""


@models.command("ls")
@json_option
def models_ls(as_json: bool) -> None:
    """List every version of every model."""
    rows = _models().table()
    columns = ("model", "aliases", "task", "metrics", *(["damage"] if any(row["damage"] for row in rows) else []))
    answer({"models": rows}, as_json, table(rows, columns))


@models.command("show")
@click.argument("reference", metavar="MODEL")
@json_option
def models_show(reference: str, as_json: bool) -> None:
    """Show a model: its metrics, where it comes from, its files."""
    found = _models().describe(reference)
    answer(found, as_json, blocks(found))


@models.command("alias")
@click.argument("reference", metavar="MODEL")
@click.argument("alias")
@json_option
def models_alias(reference: str, alias: str, as_json: bool) -> None:
    """Point ALIAS at a version, such as `models alias lenet5-digits@3 prod`."""
    found = _models().alias(reference, alias)
    answer({"model": found, "alias": alias}, as_json, f"{found} is {alias}")


@models.command("soup")
@click.argument("name")
@click.argument("references", metavar="MODEL...", nargs=-1, required=True)
@json_option
def models_soup(name: str, references: tuple[str, ...], as_json: bool) -> None:
    """Publish the mean of the weights of MODELs of one kind under NAME, and measure it."""
    from dlsvc.store.home import home
    from dlsvc.train.combine import soup

    found = soup(name, references, home())
    answer(found, as_json, blocks(found))


@models.command("ensemble")
@click.argument("name")
@click.argument("references", metavar="MODEL...", nargs=-1, required=True)
@json_option
def models_ensemble(name: str, references: tuple[str, ...], as_json: bool) -> None:
    """Publish the mean of the answers of classifiers MODELs under NAME, and measure it."""
    from dlsvc.store.home import home
    from dlsvc.train.combine import ensemble

    found = ensemble(name, references, home())
    answer(found, as_json, blocks(found))


@models.command("rm")
@click.argument("reference", metavar="MODEL")
@json_option
def models_rm(reference: str, as_json: bool) -> None:
    """Delete a version that no alias names."""
    found = _models().remove(reference)
    answer({"model": found, "status": "removed"}, as_json, f"{found} is removed")


@models.command("export")
@click.argument("reference", metavar="MODEL")
@click.argument("target", metavar="DEST", type=click.Path(path_type=Path))
@click.option("--format", "library", type=click.Choice(["transformers", "timm"]), required=True)
@json_option
def models_export(reference: str, target: Path, library: str, as_json: bool) -> None:
    """Write a model as a directory that another library's from_pretrained reads."""
    from dlsvc.store.exchange import export_bundle

    export_bundle(_models().open(reference), target, library)
    answer({"model": reference, "path": str(target), "format": library}, as_json, str(target))


@models.command("import")
@click.argument("source", metavar="SRC")
@click.argument("name")
@json_option
def models_import(source: str, name: str, as_json: bool) -> None:
    """Publish a model under NAME: SRC is a transformers or timm directory, or weights of the catalog, such as
    efficientnet-lite0."""
    from dlsvc.data.catalog import trained_weights
    from dlsvc.store.exchange import import_bundle, import_trained
    from dlsvc.store.home import home

    known = trained_weights()
    if source in known and not Path(source).exists():
        found = import_trained(_models(), known[source], home(), name)
    else:
        found = import_bundle(_models(), Path(source), name)
    answer({"model": found}, as_json, found)


def _runs() -> Any:
    from dlsvc.store.home import home
    from dlsvc.store.runs import RunStore

    return RunStore(home())


def _models() -> Any:
    from dlsvc.store.home import home
    from dlsvc.store.models import ModelStore

    return ModelStore(home())
