"""Runs on a real Ray cluster with a GPU, and servers on one."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from dlsvc.spec.schema import ServedModel, ServeSpec
from dlsvc.store.runs import Run
from dlsvc.train.evaluate import evaluate_bundle
from dlsvc.train.launch import train
from serving.predict import predict_command
from serving.run import server
from tests.engine.processes import free_port
from tests.train.test_launch import Killer
from tests.train.trials import spec_of

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("ray_cluster")]
EXACT = {"global_size": 64, "micro_size": 8, "reduce": "exact"}


def on_gpu(name: str, *, workers: int = 1, gpu: float = 1.0, **changes: Any) -> dict[str, Any]:
    scaling = {"workers": workers, "resources": {"cpu": 1, "gpu": gpu}}
    spec = spec_of("lenet5", **{"strategy": "ddp", "data__feed": "resident", "scaling": scaling, **changes})
    return train(spec, run_name=name, show_progress=False)


@pytest.fixture(scope="module")
def calm(home: Path, ray_cluster: None) -> dict[str, Any]:
    return on_gpu("gpu-calm")


@pytest.mark.parametrize(
    ("strategy", "feed"), [("plain", "resident"), ("fsdp", "resident"), ("zero2", "resident"), ("zero3", "stream")]
)
def test_strategies_and_feeds_give_one_model(strategy: str, feed: str, calm: dict[str, Any]) -> None:
    result = on_gpu(f"gpu-{strategy}-{feed}", strategy=strategy, data__feed=feed)
    assert (result["feed"], result["weights_sha256"]) == (feed, calm["weights_sha256"])


def test_bf16_learns_as_fp32_does(calm: dict[str, Any]) -> None:
    result = on_gpu("gpu-bf16", precision="bf16")
    assert result["metrics"]["loss"] == pytest.approx(calm["metrics"]["loss"], rel=0.1)


def test_killed_worker_comes_back_to_the_same_model(calm: dict[str, Any], home: Path) -> None:
    killer = Killer(Run(home / "runs" / "gpu-killed"), times=1)
    killer.start()
    result = on_gpu("gpu-killed")
    killer.join()
    assert (result["restarts"], result["weights_sha256"]) == (1, calm["weights_sha256"])


def test_two_workers_on_one_gpu_train_what_one_does(home: Path) -> None:
    found = [on_gpu(f"gpu-exact-{count}", workers=count, gpu=0.5, batch=EXACT) for count in (1, 2)]
    assert found[0]["weights_sha256"] == found[1]["weights_sha256"]
    assert found[1]["world_sizes"] == [2]


def test_served_on_a_gpu_is_what_was_predicted_and_evaluated_there(
    calm: dict[str, Any], home: Path, tmp_path: Path
) -> None:
    from PIL import Image

    picture = tmp_path / "digit.png"
    Image.effect_noise((16, 16), 80).save(picture)
    model = calm["model"]
    expected = predict_command(model, home=home, image=picture, device="cuda")["answer"]
    spec = ServeSpec(models=(ServedModel(model=model, gpu=0.5, replicas=2),), port=free_port())
    with server(spec, home=home) as url:
        request = urllib.request.Request(f"{url}/models/{model.partition('@')[0]}", picture.read_bytes())
        request.add_header("content-type", "image/png")
        with urllib.request.urlopen(request) as reply:
            assert json.loads(reply.read()) == expected
    assert evaluate_bundle(model, home, device="cuda")["metrics"] == calm["metrics"]
