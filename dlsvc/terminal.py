"""How every verb ends: the result on stdout, progress and errors on stderr, an exit code that says what happened."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

import click

from dlsvc.errors import DlsvcError, SpecError

INTERRUPTED = 130

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line of stdout.")
address_option = click.option(
    "--address", envvar="RAY_ADDRESS", help="A running Ray cluster; without it one is started here."
)
device_option = click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="What computes: cuda is a GPU.",
)


def prepare(storage: str | None) -> None:
    """Before anything imports Ray."""
    from dlsvc.environment import prepare as prepare_environment
    from dlsvc.store.home import home

    prepare_environment(home(storage))


class Shell(click.Group):
    """Ends every verb alike: what went wrong on stderr, with `--json` as the last line of stdout too; its exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        arguments = list(sys.argv[1:] if args is None else args)
        with _Unexpected("--json" in arguments) as report:
            try:
                code = super().main(arguments, prog_name or "dlsvc", complete_var, standalone_mode=False, **extra)
            except click.ClickException as error:
                error.show()
                code = report.failure(error.format_message(), "UsageError", error.exit_code)
            except click.Abort:
                click.echo("interrupted; the same command resumes a run", err=True)
                code = report.failure("interrupted", "KeyboardInterrupt", INTERRUPTED)
            except DlsvcError as error:
                click.echo(f"dlsvc: {error}" if not isinstance(error, SpecError) else str(error), err=True)
                code = report.failure(str(error), type(error).__name__, error.exit_code, _problems(error))
        sys.exit(code if isinstance(code, int) else 0)


class _Unexpected:
    """Writes the last line of stdout for failures; also for one that nobody foresaw, whose traceback goes on."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def __enter__(self) -> _Unexpected:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.failure(str(error), type(error).__name__, 1)

    def failure(self, message: str, kind: str, code: int, problems: Sequence[Mapping[str, Any]] = ()) -> int:
        if self.as_json:
            error = {"kind": kind, "message": message, "exit_code": code}
            click.echo(json.dumps({"status": "error", "error": error | ({"problems": problems} if problems else {})}))
        return code


def _problems(error: DlsvcError) -> list[dict[str, Any]]:
    return [vars(problem) for problem in error.problems] if isinstance(error, SpecError) else []


def answer(result: Any, as_json: bool, text: str) -> None:
    """The result, as one line of JSON or as text for a person."""
    click.echo(json.dumps(result) if as_json else text)


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Columns of text as wide as what they hold."""
    cells = [list(columns), *([_cell(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={_cell(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_cell(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)


def blocks(value: Any) -> str:
    """A result for a person: an indented block a field."""
    import yaml

    return yaml.safe_dump(json.loads(json.dumps(value)), sort_keys=False, allow_unicode=True, width=120).rstrip()
