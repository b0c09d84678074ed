"""`dlsvc serve`, and the process of a server of its own: from a command line to a spec that is served."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlsvc.errors import DlsvcError, UsageError
from dlsvc.spec.load import load_kind, parse
from dlsvc.spec.schema import ServeSpec
from serving.background import forget, launch
from serving.run import serve_until_stopped, url_of


def serve_command(
    models_or_spec: str | Path | Sequence[str],
    *,
    home: Path,
    host: str | None = None,
    port: int | None = None,
    address: str | None = None,
    detach: bool = False,
    gpu: float | None = None,
) -> dict[str, Any]:
    """`dlsvc serve`: models, or the path of a serve spec, until SIGINT or SIGTERM; detached, until somebody stops it.
    Each model that is named gets `gpu` GPUs a process.

    Raises NotFound for a model that isn't published and UsageError for a port that is taken, before Ray starts.
    """
    spec = serve_spec(models_or_spec, host, port, gpu)
    if detach:
        return launch(spec, home=home, address=address)
    serve_until_stopped(spec, home=home, address=address)
    return {"status": "stopped", "url": url_of(spec)}


def serve_spec(
    models_or_spec: str | Path | Sequence[str], host: str | None, port: int | None, gpu: float | None = None
) -> ServeSpec:
    """The spec that the command line means; host and port override a file's. Raises SpecError for what is wrong."""
    given = [models_or_spec] if isinstance(models_or_spec, str | Path) else list(models_or_spec)
    if not given:
        raise UsageError("name at least one model, such as lenet5-digits@best, or a serve spec")
    changes = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    if len(given) == 1 and str(given[0]).endswith((".yaml", ".yml", ".json")):
        if gpu is not None:
            raise UsageError(f"--gpu is for models that are named here; {given[0]} says it of each of its own")
        return load_kind(ServeSpec, given[0], [f"{name}={value}" for name, value in changes.items()])
    own = {} if gpu is None else {"gpu": gpu}
    found = parse({"kind": "serve", "models": [{"model": str(model), **own} for model in given], **changes})
    assert isinstance(found, ServeSpec)
    return found


def main() -> None:
    """`python -m serving.command SPEC`: serve until stopped, then take the record away."""
    parser = argparse.ArgumentParser(prog="serving.command", description="Serve published models until stopped.")
    parser.add_argument("what", nargs="+", help="models, or a serve spec")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--address")
    asked = parser.parse_args()
    try:
        spec = serve_spec(asked.what, asked.host, asked.port)
        try:
            serve_until_stopped(spec, home=asked.home, address=asked.address)
        finally:
            forget(asked.home / "servers" / f"{spec.port}.json", os.getpid())
    except DlsvcError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
