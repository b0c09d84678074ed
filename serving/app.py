"""[R] The HTTP application: routes and errors. Everything else is in the dialects and the replicas."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from ray import serve
from ray.serve.handle import DeploymentHandle

from dlsvc.errors import DataError, DlsvcError, UsageError
from dlsvc.spec.schema import ServedModel, ServeSpec
from dlsvc.store.models import ModelStore
from serving.dialects import huggingface
from serving.replica import ModelReplica

MAX_BODY_BYTES = 20 * 1024 * 1024


class HttpError(Exception):
    """An answer that is an error: status and what to say."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def build_app(spec: ServeSpec, home: str) -> serve.Application:
    """The application of a serve spec. Raises NotFound for a model that isn't published, before anything is started."""
    facts = {_public_name(item): _facts(item, home) for item in spec.models}
    handles = {_public_name(item): _replica(item, home) for item in spec.models}
    api = build_api()
    gateway = serve.deployment(name="gateway", max_ongoing_requests=256)(serve.ingress(api)(_Gateway))
    return gateway.bind(facts, handles)


class _Gateway:
    """Holds the handles; routes find it in the request's scope through the application's state."""

    def __init__(self, facts: Mapping[str, Any], handles: Mapping[str, DeploymentHandle]) -> None:
        _STATE["facts"], _STATE["handles"] = facts, handles


# One gateway lives in one process; Serve's class-based ingress gives functions no other way to reach its instance.
_STATE: dict[str, Any] = {}


def _public_name(item: ServedModel) -> str:
    return item.model.partition("@")[0]


def _facts(item: ServedModel, home: str) -> dict[str, Any]:
    bundle = ModelStore(_path(home)).open(item.model)
    return {"reference": bundle.reference, "task": bundle.config["task"]["name"], "classes": bundle.classes, "published": time.time()}


def _path(home: str) -> Any:
    from pathlib import Path

    return Path(home)


def _replica(item: ServedModel, home: str) -> Any:
    size = item.max_batch_size
    # Serve caps a batch at the requests it lets in: twice the batch, so that one fills while another is computed.
    options = {"num_replicas": item.replicas, "max_ongoing_requests": 2 * size, "ray_actor_options": {"num_cpus": 0.5}}
    deployment = serve.deployment(name=f"model-{_public_name(item)}", **options)(ModelReplica)
    return deployment.bind(item.model, home, size, item.batch_wait_s)


def build_api() -> FastAPI:
    """The routes."""
    api = FastAPI(title="dlsvc", description="Models published by dlsvc, over HTTP")

    @api.exception_handler(HttpError)
    async def _http_error(request: Request, error: HttpError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, error.status)

    @api.exception_handler(DlsvcError)
    async def _our_error(request: Request, error: DlsvcError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 400 if isinstance(error, UsageError | DataError) else 500)

    @api.get("/health/live")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @api.get("/health/ready")
    async def ready() -> dict[str, Any]:
        found = await asyncio.gather(*(handle.describe.remote() for handle in _STATE["handles"].values()))
        return {"status": "ready", "models": [described["reference"] for described in found]}

    @api.get("/v1/models")
    async def models() -> dict[str, Any]:
        rows = [_row(name, facts) for name, facts in _STATE["facts"].items()]
        return {"object": "list", "data": rows}

    @api.get("/v1/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        return _row(name, _known(name))

    @api.post("/models/{name}")
    async def predict(name: str, request: Request) -> Response:
        facts = _known(name)
        asked = huggingface.parse(facts["task"], await _body(request), request.headers.get("content-type", ""))
        predictions = await _predict(name, asked)
        answer = huggingface.answer(facts["task"], asked, predictions, facts["classes"])
        return Response(answer.png, media_type="image/png") if answer.png else JSONResponse(answer.content)

    return api


def _row(name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    row = {"id": name, "object": "model", "created": int(facts["published"]), "owned_by": "dlsvc"}
    return row | {"version": facts["reference"], "task": facts["task"], "classes": facts["classes"]}


def _known(name: str) -> Mapping[str, Any]:
    facts = _STATE["facts"].get(name)
    if facts is None:
        raise HttpError(404, f"no model {name!r} is served here; there are {', '.join(sorted(_STATE['facts']))}")
    return dict(facts)


async def _body(request: Request) -> bytes:
    """The body, refused before it is read where its length says that it is too large."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
        raise HttpError(413, f"the body has {declared} bytes, at most {MAX_BODY_BYTES} are taken")
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise HttpError(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
        parts.append(part)
    if not size:
        raise HttpError(400, "the body is empty; send an image's bytes, or JSON with \"inputs\"")
    return b"".join(parts)


async def _predict(name: str, asked: huggingface.Request) -> list[Any]:
    handle = _STATE["handles"][name]
    found = await asyncio.gather(*(handle.predict.remote(item) for item in asked.inputs))
    for prediction in found:
        if isinstance(prediction, DlsvcError):
            raise prediction
    return list(found)
