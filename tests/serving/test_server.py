"""A live server: every route, every error, and equality with offline prediction."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch

from dlsvc.data.codecs import decode_image
from dlsvc.errors import UsageError
from dlsvc.predictor import Predictor
from serving.command import serve_command, serve_spec
from serving.dialects import huggingface
from serving.predict import answer, predict_command, route
from serving.run import require_gpus
from serving.wire import MAX_BODY_BYTES
from tests.serving.client import Client, as_json, as_text, chirp, free_port, picture
from tests.serving.conftest import MODELS

_CONCURRENT, _SEEDS = 32, 12
_JSON = "application/json"


def _requests(seed: int) -> list[tuple[str, bytes]]:
    """One request of every kind."""
    features = np.random.default_rng(seed).normal(size=(3, 4)).tolist()
    labels = ["a cat", "a flag", "a smile"]
    return [
        ("lenet5", picture(seed)),
        ("lenet5", as_json(as_text(picture(seed)), top_k=3)),
        ("vae", picture(seed)),
        ("vae", as_json("", seed=seed)),
        ("gan", as_json("", seed=seed)),
        ("ddpm", as_json("7", seed=seed)),
        ("ddpm", as_json("7", seed=seed, num_inference_steps=2, guidance_scale=1.5)),
        ("prompted", as_json("a picture of a 3", seed=seed, negative_prompt="a 4", num_inference_steps=1 + seed % 3)),
        ("prompted", as_json(as_text(picture(seed)), prompt="a 5", strength=0.5, guidance_scale=3)),
        ("prompted", as_json(as_text(picture(seed)), prompt="a 5", mask_image=as_text(picture(seed + 1)))),
        ("prompted", picture(seed)),
        ("clip", picture(seed, 3)),
        ("clip", as_json(["a smile", "flag " * seed], truncate=True)),
        ("clip", as_json(as_text(picture(seed, 3)), candidate_labels=labels)),
        ("iris", as_json(features)),
        ("speech", chirp(seed)),
        ("heard", chirp(seed)),
        ("speech", as_json([as_text(chirp(seed)), as_text(chirp(seed + 1))], top_k=2)),
        ("glosses", as_json(["a large wild cat", "run " * seed], truncate=True)),
        ("words", as_json("a large wild cat")),
        ("nuclei", picture(seed)),
        ("codes", picture(seed)),
        ("sharper", picture(seed, 3)),
    ]


def _offline(predictor: Predictor, body: bytes) -> bytes:
    found = answer(predictor, huggingface.parse(route(predictor), body))
    return huggingface.encode(found.content) if found.png is None else found.png


def test_concurrent_answers_equal_offline_ones_to_the_byte(client: Client, predictors: dict[str, Predictor]) -> None:
    asked = [one for seed in range(_SEEDS) for one in _requests(seed)]
    with ThreadPoolExecutor(_CONCURRENT) as pool:
        replies = list(pool.map(lambda one: client.post(*one), asked))
    for (name, body), reply in zip(asked, replies, strict=True):
        assert reply.status == 200, reply.body
        assert reply.body == _offline(predictors[name], body), name


@pytest.mark.parametrize(
    ("model", "arguments"),
    [
        ("lenet5", {"image": True}),
        ("iris", {"features": [5.1, 3.5, 1.4, 0.2]}),
        ("iris", {"features": [[5.1, 3.5, 1.4, 0.2], [6.0, 3.0, 5.0, 2.0]]}),
        ("clip", {"text": "a cat"}),
        ("glosses", {"text": "a large wild cat"}),
        ("speech", {"audio": True}),
        ("heard", {"audio": True}),
        ("clip", {"text": ["a cat", "a dog"]}),
        ("clip", {"image": True}),
        ("clip", {"image": True, "labels": ["cat", "dog"]}),
    ],
)
def test_the_command_gives_the_served_json(
    model: str, arguments: dict[str, Any], client: Client, published: Path, tmp_path: Path
) -> None:
    body = _body(arguments)
    if "image" in arguments:
        (tmp_path / "asked.png").write_bytes(picture(1))
        arguments = {**arguments, "image": tmp_path / "asked.png"}
    if "audio" in arguments:
        (tmp_path / "asked.wav").write_bytes(chirp(1))
        arguments = {"audio": tmp_path / "asked.wav"}
    found = predict_command(f"test-{model}", home=published, **arguments)
    assert found["model"] == f"test-{model}@1"
    assert huggingface.encode(found["answer"]) == client.post(model, body).body


@pytest.mark.parametrize(("model", "seed"), [("vae", None), ("vae", 5), ("gan", 5), ("ddpm", 5)])
def test_the_command_writes_the_served_picture(
    model: str, seed: int | None, client: Client, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("asked.png").write_bytes(picture(1))
    asked = {"image": "asked.png"} if seed is None else {"seed": seed}
    found = predict_command(f"test-{model}", home=published, **asked)  # type: ignore[arg-type]
    served = client.post(model, picture(1) if seed is None else as_json("", seed=seed))
    assert served.type == "image/png"
    assert found["path"] == f"test-{model}.png"
    assert found["sha256"] == hashlib.sha256(served.body).hexdigest()
    assert (tmp_path / found["path"]).read_bytes() == served.body


def _body(arguments: dict[str, Any]) -> bytes:
    if "labels" in arguments:
        return as_json(as_text(picture(1)), candidate_labels=arguments["labels"])
    if "audio" in arguments:
        return chirp(1)
    return picture(1) if "image" in arguments else as_json(arguments.get("features") or arguments["text"])


def test_seeds_give_different_pictures_and_the_same_each_time(client: Client) -> None:
    first, second, again = (client.post("gan", as_json("", seed=seed)).body for seed in (1, 2, 1))
    assert first == again != second
    assert decode_image(first, 1).shape == (28, 28, 1)


def test_health_says_live_and_ready(client: Client) -> None:
    assert client.get("/health/live").json == {"status": "live"}
    assert client.get("/health/ready").json == {"status": "ready", "models": [f"test-{name}@1" for name in MODELS]}


def test_models_are_listed_and_shown(client: Client) -> None:
    listed = client.get("/v1/models").json
    assert [row["id"] for row in listed["data"]] == [f"test-{name}" for name in MODELS]
    shown = client.get("/v1/models/test-iris").json
    assert shown in listed["data"]
    assert shown["model"] == "test-iris@1"
    assert shown["task"] == "classification"
    assert shown["classes"] == ["setosa", "versicolor", "virginica"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/nothing/here", 404),
        ("GET", "/%00%ff", 404),
        ("GET", "/v1/models/nobody", 404),
        ("POST", "/models/nobody", 404),
        ("GET", "/models/test-iris", 405),
        ("DELETE", "/v1/models", 405),
    ],
)
def test_a_wrong_route_is_an_error_in_json(method: str, path: str, status: int, client: Client) -> None:
    reply = client.send(method, path, b"x" if method == "POST" else None)
    assert (reply.status, reply.type) == (status, _JSON)
    assert set(reply.json) == {"error"}


@pytest.mark.parametrize(
    ("model", "body", "content_type", "status", "message"),
    [
        ("lenet5", b"", "", 400, "empty"),
        ("lenet5", b"not an image", "", 400, "not a PNG"),
        ("lenet5", picture(0)[:60], "image/png", 400, "image"),
        ("lenet5", b"{", "", 400, "not JSON"),
        ("lenet5", b"[" * 100_000, _JSON, 400, "not JSON"),
        ("lenet5", as_json([1.0]), "", 400, "reads image"),
        ("lenet5", as_json("", topk=1), _JSON, 400, "top_k"),
        ("iris", picture(0), "", 400, "reads features"),
        ("iris", as_json([[1, 2, 3, 4], [1, 2]]), _JSON, 400, "input 1, features: 2 numbers, not 4"),
        ("iris", as_json([3e38, -3e38, 3e38, -3e38]), _JSON, 400, "not finite"),
        ("clip", as_json("\ud800"), _JSON, 400, "not a text"),
        ("gan", picture(0), "", 400, "reads no images"),
        ("vae", as_json("a prompt"), _JSON, 400, "base64"),
        ("lenet5", b"x" * (MAX_BODY_BYTES + 1), "", 413, str(MAX_BODY_BYTES)),
    ],
)
def test_a_wrong_body_is_the_clients_error(
    model: str, body: bytes, content_type: str, status: int, message: str, client: Client
) -> None:
    reply = client.post(model, body, content_type)
    assert (reply.status, reply.type) == (status, _JSON)
    assert message in reply.json["error"]


def test_an_image_of_too_many_pixels_is_refused(client: Client) -> None:
    from dlsvc.data.codecs import encode_png

    reply = client.post("lenet5", encode_png(np.zeros((5001, 5000), np.uint8)))
    assert reply.status == 400
    assert "megapixels" in reply.json["error"]


def test_a_bad_request_spoils_nobody_elses_answer(client: Client, predictors: dict[str, Predictor]) -> None:
    asked = [picture(seed) if seed % 2 else b"junk" for seed in range(_CONCURRENT)]
    with ThreadPoolExecutor(_CONCURRENT) as pool:
        replies = list(pool.map(lambda body: client.post("lenet5", body), asked))
    for seed, (body, reply) in enumerate(zip(asked, replies, strict=True)):
        assert reply.status == (200 if seed % 2 else 400)
        if seed % 2:
            assert json.loads(reply.body) == json.loads(_offline(predictors["lenet5"], body))


def test_a_cluster_serves_on_the_port_that_it_started_with(client: Client, published: Path) -> None:
    with pytest.raises(UsageError, match=f"this cluster's Serve listens on 127.0.0.1:{urlsplit(client.url).port}"):
        serve_command("test-iris", home=published, port=free_port())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_gpus_that_are_not_there_are_refused(client: Client, published: Path, tmp_path: Path) -> None:
    """Serve would wait for them."""
    spec = serve_spec(["test-lenet5", "test-vae"], None, None, 0.5)
    assert [item.gpu for item in spec.models] == [0.5, 0.5]
    with pytest.raises(UsageError, match="the models ask for 1 GPUs, and this machine has 0: ask for less"):
        require_gpus(spec, may_grow=False)
    require_gpus(spec, may_grow=True)
    path = tmp_path / "serve.yaml"
    path.write_text("kind: serve\nmodels: [{model: test-lenet5, gpu: 0.25}]\n")
    with pytest.raises(UsageError, match="--gpu is for models that are named here"):
        serve_spec(str(path), None, None, 0.5)
    with pytest.raises(UsageError, match="a GPU is asked for"):
        predict_command("test-lenet5", home=published, image=tmp_path / "none.png", device="cuda")
