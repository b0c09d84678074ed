"""[R] Submit a run to a cluster through the Ray Jobs API: the spec travels, the cluster has the rest."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlsvc.errors import ClusterUnreachable, Refused, RunCancelled, RunFailed, UsageError
from dlsvc.spec.load import dump_yaml, load
from dlsvc.spec.schema import ServeSpec, TuneSpec
from dlsvc.store.runs import check_run_name
from dlsvc.train.buildable import RULES

# What the spec is called where the job runs.
_SPEC = "spec.yaml"


def submit(path: str, overrides: Sequence[str], *, address: str, run_name: str | None, follow: bool) -> dict[str, Any]:
    """Send a train or tune spec, checked here first, as a job whose driver runs on the cluster. Returns the job's id,
    and its result when followed.
    """
    spec = load(path, overrides, RULES)
    if isinstance(spec, ServeSpec):
        raise UsageError(f"{path} is a serve spec, and a server has no end; `dlsvc serve {path}` serves it")
    if run_name and isinstance(spec, TuneSpec):
        raise UsageError("--name is a run's; a search names its trials after itself")
    if run_name:
        check_run_name(run_name)
    client = _client(address)
    arguments = [*(["--name", run_name] if run_name else []), "--address", "auto", "--json"]
    with tempfile.TemporaryDirectory() as folder:
        # As it is understood here: overrides, what came from other files and paths mean the same where the job runs.
        (Path(folder) / _SPEC).write_text(dump_yaml(spec), encoding="utf-8")
        job = client.submit_job(
            # Ray may collect the job's directory while its driver still runs, and Tune asks where it is.
            entrypoint=f'cd / && exec dlsvc {spec.kind} "$OLDPWD/{_SPEC}" {shlex.join(arguments)}',
            runtime_env={"working_dir": folder},
            metadata={"dlsvc": spec.kind, "spec": Path(path).name, "run": run_name or ""},
        )
    found = {"job": job, "address": address, "status": "submitted"}
    return {**found, **_follow(client, job)} if follow else found


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
