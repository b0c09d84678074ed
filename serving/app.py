"""[R] The HTTP application: routes, and the models behind them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from dlsvc.data.preprocess import Preprocess
from dlsvc.errors import DlsvcError, NotFound, UsageError, did_you_mean
from dlsvc.predictor import Input, Piece
from dlsvc.spec.schema import ServedModel, ServeSpec
from dlsvc.store.bundle import DIGESTS, Bundle
from dlsvc.store.models import ModelStore
from dlsvc.tasks.base import Prediction
from serving.dialects import huggingface, openai
from serving.replica import ModelReplica
from serving.wire import Unavailable, add_error_handlers, json_response, read_body

# Requests that one gateway, and one model's queue, hold before further ones are told to come again.
_MAX_REQUESTS = 1024
_READY_TIMEOUT_S = 10
# A model's processes hold so many batches' worth of requests: Serve's default of 5 requests would cap every batch, and
# being turned away costs the gateway a pause.
_BATCHES_AHEAD = 8
# How often a process that stops looks whether it is idle.
_STOP_CHECK_S = 0.2
# Logical CPUs: they only limit how many processes Ray puts on a node.
_CPUS = {"gateway": 0.1, "model": 0.5}

Facts = Mapping[str, Any]


def build_app(spec: ServeSpec, home: Path) -> serve.Application:
    """The application of a serve spec. Raises NotFound for a model that isn't published, before anything starts."""
    store = ModelStore(home)
    bundles = {item: store.open(item.model) for item in spec.models}
    names = [public_name(item) for item in spec.models]
    if len(set(names)) < len(names):
        raise UsageError(f"each model is served once, at /models/NAME; these are {', '.join(names)}")
    facts = {public_name(item): _facts(bundle) for item, bundle in bundles.items()}
    handles = {public_name(item): _replicas(item, bundle, home) for item, bundle in bundles.items()}
    deploy = serve.deployment(
        name="gateway",
        max_ongoing_requests=_MAX_REQUESTS,
        graceful_shutdown_wait_loop_s=_STOP_CHECK_S,
        ray_actor_options={"num_cpus": _CPUS["gateway"]},
    )
    return deploy(serve.ingress()(Gateway)).bind(facts, handles)


def public_name(item: ServedModel) -> str:
    return item.model.partition("@")[0]


def _facts(bundle: Bundle) -> Facts:
    task, reads = bundle.config["task"]["name"], Preprocess.from_json(bundle.preprocess).reads
    return {
        "model": bundle.reference,
        "task": task,
        "reads": list(reads),
        "route": huggingface.route(task, reads),
        "classes": bundle.classes,
        "created": int((bundle.path / DIGESTS).stat().st_mtime),
    }


def _replicas(item: ServedModel, bundle: Bundle, home: Path) -> serve.Application:
    """Pinned to the version that an alias means now: a replica that starts later must not serve another."""
    deploy = serve.deployment(
        name=f"model-{public_name(item)}",
        num_replicas=item.replicas,
        max_ongoing_requests=_BATCHES_AHEAD * item.max_batch_size,
        max_queued_requests=_MAX_REQUESTS,
        graceful_shutdown_wait_loop_s=_STOP_CHECK_S,
        ray_actor_options={"num_cpus": _CPUS["model"], "num_gpus": item.gpu},
    )
    device = "cuda" if item.gpu else "cpu"
    return deploy(ModelReplica).bind(bundle.reference, str(home), device, item.max_batch_size, item.batch_wait_s)


class Gateway:
    """The routes. Serve makes one in a process of its own, with a handle to each model's replicas."""

    def __init__(self, facts: Mapping[str, Facts], handles: Mapping[str, DeploymentHandle]) -> None:
        self.facts = facts
        self.handles = handles

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Serve asks for the application after the constructor, so routes are methods of the instance."""
        api = FastAPI(title="dlsvc", description="Models published by dlsvc, over HTTP", docs_url=None, redoc_url=None)
        add_error_handlers(api)
        for path, answer in (
            ("/health/live", self.live),
            ("/health/ready", self.ready),
            ("/v1/models", self.list_models),
            ("/v1/models/{name}", self.show_model),
        ):
            api.add_api_route(path, answer, methods=["GET"], response_model=None)
        api.add_api_route("/models/{name}", self.predict, methods=["POST"], response_model=None)
        api.add_api_route(openai.EMBEDDINGS, self.embed, methods=["POST"], response_model=None)
        return api

    async def live(self) -> Response:
        """This process answers."""
        return json_response({"status": "live"})

    async def ready(self) -> Response:
        """Every model answers."""
        asked = (_answered(handle.describe.remote()) for handle in self.handles.values())
        try:
            found = await asyncio.wait_for(asyncio.gather(*asked), _READY_TIMEOUT_S)
        except TimeoutError as error:
            raise Unavailable("a model does not answer") from error
        return json_response({"status": "ready", "models": [described["model"] for described in found]})

    async def list_models(self) -> Response:
        """The models, as OpenAI's clients read them, and what dlsvc knows of each."""
        return json_response({"object": "list", "data": [_row(name, facts) for name, facts in self.facts.items()]})

    async def show_model(self, name: str) -> Response:
        """One model."""
        return json_response(_row(name, self._known(name)))

    async def predict(self, name: str, request: Request) -> Response:
        """A prediction in the Hugging Face dialect: a file's bytes, or JSON with "inputs" and "parameters"."""
        facts = self._known(name)
        body = await read_body(request, huggingface.EXAMPLE)
        asked = huggingface.parse(facts["route"], body, request.headers.get("content-type", ""))
        if asked.streams:
            return await self._stream(name, asked)
        predictions = await self._ask(name, asked.inputs)
        answer = huggingface.answer(facts["route"], asked, predictions, facts["classes"])
        return json_response(answer.content) if answer.png is None else Response(answer.png, media_type="image/png")

    async def embed(self, request: Request) -> Response:
        """Vectors of texts in the OpenAI dialect."""
        asked = openai.parse(await read_body(request, openai.EXAMPLE))
        facts = self._known(asked.model)
        key = openai.vector_key(asked.model, facts["task"], facts["reads"])
        return json_response(openai.answer(asked, await self._ask(asked.model, asked.inputs), key))

    async def _stream(self, name: str, asked: huggingface.Request) -> Response:
        """Server-sent events. What is wrong with the request comes before the first, with its status."""
        pieces = self.handles[name].options(stream=True).stream.remote(asked.inputs[0])
        first = await _answered(anext(pieces))
        if isinstance(first, DlsvcError):
            raise first
        return StreamingResponse(_events(asked, first, pieces), media_type="text/event-stream")

    async def _ask(self, name: str, inputs: Sequence[Input]) -> list[Prediction]:
        found = await _answered(self.handles[name].predict.remote(inputs))
        if isinstance(found, DlsvcError):
            raise found
        return list(found)

    def _known(self, name: str) -> Facts:
        if name not in self.facts:
            raise NotFound(f"no model {name!r} is served here{did_you_mean(name, self.facts)}")
        return self.facts[name]


def _row(name: str, facts: Facts) -> dict[str, Any]:
    return {"id": name, "object": "model", "owned_by": "dlsvc", **facts}


async def _events(asked: huggingface.Request, first: Piece, pieces: AsyncIterator[Piece]) -> AsyncIterator[bytes]:
    yield huggingface.event(asked, first)
    try:
        async for piece in pieces:
            yield huggingface.event(asked, piece)
    # The status is sent already: that a model was lost can only be said here.
    except (RayError, RayServeException) as error:
        yield huggingface.broken_off(Unavailable(f"the model was lost while it wrote: {type(error).__name__}"))


async def _answered(response: Any) -> Any:
    """What a replica returned. Raises Unavailable when none could answer; its own failures go on as they are."""
    try:
        return await response
    except RayTaskError:
        raise
    except (RayError, RayServeException) as error:
        raise Unavailable(f"the model can't answer now: {type(error).__name__}") from error
