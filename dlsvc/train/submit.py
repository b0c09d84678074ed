"""[R] Submit a run to a cluster through the Ray Jobs API: the spec travels, the cluster has the rest."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlsvc.errors import ClusterUnreachable, Refused, RunCancelled, RunFailed
from dlsvc.spec.load import load
from dlsvc.spec.schema import Spec, TrainSpec

# What the spec is called where the job runs.
_SPEC = "spec.yaml"


def submit(path: str, overrides: Sequence[str], *, address: str, run_name: str | None, follow: bool) -> dict[str, Any]:
    """Send a train spec, checked here first, as a job whose driver runs on the cluster. Returns the job's id, and its
    result when followed.
    """
    spec = load(path, overrides)
    client = _client(address)
    arguments = [*overrides, *_places(spec), *(["--name", run_name] if run_name else []), "--address", "auto", "--json"]
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(path, Path(folder) / _SPEC)
        job = client.submit_job(
            entrypoint=shlex.join(["dlsvc", "train", _SPEC, *arguments]),
            runtime_env={"working_dir": folder},
            metadata={"dlsvc": "train", "spec": Path(path).name, "run": run_name or ""},
        )
    found = {"job": job, "address": address, "status": "submitted"}
    return {**found, **_follow(client, job)} if follow else found


def _places(spec: Spec) -> list[str]:
    """Overrides for what counts from the directory here: the job has another."""
    if not isinstance(spec, TrainSpec) or "/" not in spec.data.source:
        return []
    return [f"data.source={json.dumps(spec.data.source)}"]


def _client(address: str) -> Any:
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise Refused(f"{address} refused the token; set RAY_AUTH_TOKEN_PATH to the cluster's: {error}") from error
    except (ConnectionError, RuntimeError) as error:
        raise ClusterUnreachable(f"no Ray dashboard answers at {address}: {error}") from error


def _follow(client: Any, job: str) -> dict[str, Any]:
    """Print the job's output until it ends; its last line is the result."""
    last = asyncio.run(_tail(client, job))
    status = client.get_job_status(job).value
    if status == "STOPPED":
        raise RunCancelled(f"job {job} was stopped; submit it again to resume")
    if status != "SUCCEEDED":
        raise RunFailed(f"job {job} ended {status}: {client.get_job_info(job).message}")
    return dict(json.loads(last))


async def _tail(client: Any, job: str) -> str:
    last = ""
    async for text in client.tail_job_logs(job):
        sys.stderr.write(text)
        lines = [line for line in text.splitlines() if line.startswith("{")]
        last = lines[-1] if lines else last
    return last
