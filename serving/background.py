"""A server in a process of its own: `dlsvc serve --detach`.

HOME/servers/PORT.json   its process, URL, models and log, while it runs
HOME/servers/PORT.log    what it says
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from dlsvc.errors import RunFailed
from dlsvc.spec.schema import ServeSpec
from dlsvc.store.models import ModelStore
from serving.run import READY_TIMEOUT_S, is_ready, require_free, url_of


def launch(spec: ServeSpec, *, home: Path, address: str | None) -> dict[str, Any]:
    """Start a server that outlives this process; returns its facts once every model answers."""
    models = ["{}@{}".format(*ModelStore(home).resolve(item.model)) for item in spec.models]
    require_free(spec.host, spec.port)
    folder = home / "servers"
    folder.mkdir(parents=True, exist_ok=True)
    record, log = folder / f"{spec.port}.json", folder / f"{spec.port}.log"
    facts = {"url": url_of(spec), "models": models, "log": str(log), "spec": spec.dump()}
    with log.open("wb") as output:
        process = subprocess.Popen(
            _command(facts, folder / f"{spec.port}.spec.json", home, address),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    record.write_text(json.dumps({"pid": process.pid, **facts}, indent=1) + "\n")
    try:
        _wait(process, url_of(spec), log)
    except RunFailed:
        # It may have been ended before it could do so itself.
        forget(record, process.pid)
        raise
    return {"status": "ready", "pid": process.pid, **facts, "stop": f"kill {process.pid}"}


def _command(facts: dict[str, Any], path: Path, home: Path, address: str | None) -> list[str]:
    path.write_text(json.dumps(facts["spec"]))
    place = ["--address", address] if address else []
    return [sys.executable, "-m", "serving.command", str(path), "--home", str(home), *place]


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + 2 * READY_TIMEOUT_S
    while not is_ready(url):
        if process.poll() is not None:
            said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise RunFailed(f"the server ended with exit code {process.returncode}: {' '.join(said[-3:])} (in {log})")
        if time.monotonic() > deadline:
            process.terminate()
            raise RunFailed(f"{url} did not become ready; {log} has more")
        time.sleep(0.1)


def forget(record: Path, pid: int) -> None:
    """Only that process's: another server may have taken the port since."""
    if record.exists() and json.loads(record.read_text(encoding="utf-8"))["pid"] == pid:
        record.unlink()
        record.with_suffix(".spec.json").unlink(missing_ok=True)
