"""Images that a frozen autoencoder reads once for a whole run, on Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dlsvc.errors import SpecError
from dlsvc.spec.schema import TrainSpec
from dlsvc.store.models import ModelStore
from dlsvc.store.runs import RunStore
from dlsvc.train.encode import _beginning, _key
from dlsvc.train.launch import train
from dlsvc.train.prepare import open_run, prepare_job
from tests.train.test_quarantine import broken_folder
from tests.train.tiny_systems import TINY
from tests.train.trials import spec_of, train_in_group

pytestmark = [pytest.mark.usefixtures("ray_cluster"), pytest.mark.timeout(300)]
DATA = {**TINY["latent_diffusion"]["data"], "limit": 200}


def spec_with(data: dict[str, Any], **changes: Any) -> TrainSpec:
    sizes = {"batch": {"global_size": 16, "micro_size": 4, "reduce": "exact"}, "budget": {"steps": 12}}
    return spec_of("latent_diffusion", **{"data": {**DATA, **data}, **sizes, **changes})


def run(name: str, data: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return train(spec_with(data, **changes), run_name=name, show_progress=False)


def files(home: Path) -> list[Path]:
    return sorted((home / "encoded").glob("*"))


def weights(home: Path, result: dict[str, Any]) -> dict[str, torch.Tensor]:
    return ModelStore(home).open(result["model"]).weights()


def test_encoded_once_is_encoded_every_time_for_either_feed_and_any_workers(home: Path) -> None:
    before = set(files(home))
    once = run("encoded-once", {"encode_once": True})
    (file,) = set(files(home)) - before
    written = file.stat().st_mtime_ns
    three = run("encoded-three", {"encode_once": True, "feed": "stream"}, strategy="ddp", scaling={"workers": 3})
    assert three["weights_sha256"] == once["weights_sha256"]
    assert set(files(home)) - before == {file}
    assert file.stat().st_mtime_ns == written
    rows = np.load(file, mmap_mode="r")
    assert rows.shape == (200, 4, 4, 4)
    live = train_in_group(spec_with({}), home, run_name="encoded-live", world_size=1)
    assert live["metrics"]["denoising_loss"] == pytest.approx(once["metrics"]["denoising_loss"], rel=1e-5)
    found, wanted = weights(home, once), weights(home, live)
    assert max(float((found[name] - wanted[name]).abs().max()) for name in found) <= 1e-5


def test_an_image_that_is_broken_is_quarantined_when_its_turn_comes(home: Path, tmp_path: Path) -> None:
    broken = broken_folder(tmp_path, 0.05)
    data = {"source": str(tmp_path), "limit": None, "encode_once": True, "max_bad_fraction": 0.1}
    run("encoded-broken", data, batch={"global_size": 40, "micro_size": 8}, budget={"epochs": 1})
    lines = RunStore(home).open("encoded-broken").lines("quarantine.jsonl")
    assert {Path(bad["uri"]).stem for bad in lines} == broken
    assert {bad["reason"] for bad in lines} == {"its image could not be decoded"}


def test_what_is_kept_is_named_by_what_encodes(home: Path) -> None:
    """The weights alone don't say how many groups a norm has; what is not frozen doesn't matter."""
    args = TINY["latent_diffusion"]["model"]["args"]
    other = {**args, "autoencoder": {**args["autoencoder"], "groups": 1}}
    denoiser = {**args, "unet": {**args["unet"], "dropout": 0.5}}
    keys = []
    for number, changed in enumerate((args, other, denoiser)):
        spec, run = open_run(spec_with({"encode_once": True}, model__args=changed), f"named-{number}", home)
        job = prepare_job(spec, run, home)
        keys.append(_key(job, _beginning(job)))
    assert keys[0] == keys[2] != keys[1]


def test_what_nothing_could_encode_or_must_see_again_is_refused() -> None:
    with pytest.raises(SpecError, match="task classification has no frozen encoder of images; latent-denoising has"):
        spec_of("lenet5", data__encode_once=True)
    with pytest.raises(SpecError, match="flip would change images that encode_once has encoded before"):
        spec_of("latent_diffusion", data={**DATA, "encode_once": True, "augment": [{"name": "flip"}]})
