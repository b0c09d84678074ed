"""A solver's few steps against the thousand of DDPM: samples a second of one published model, and how far from the data
each kind of samples is. Train it first: `dlsvc train jobs/vision/resnet34-fashion-mnist.yaml` and
`dlsvc train jobs/generative/ddpm-fashion-mnist.yaml`.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch

from dlsvc.data.preprocess import Preprocess
from dlsvc.data.source import open_source
from dlsvc.data.tensors import to_tensors
from dlsvc.errors import NotFound
from dlsvc.metrics.distribution import frechet_distance
from dlsvc.spec.data_sections import DataSpec
from dlsvc.store.bundle import Bundle, build_task
from dlsvc.store.home import home as home_of
from dlsvc.store.models import ModelStore
from dlsvc.train.fidelity import as_bytes

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]
MAKER, EYE = "ddpm-fashion-mnist", "resnet34-fashion-mnist"
SAMPLES, BATCH, THREADS = 200, 100, 2
WAYS = {"ddpm": 1000, "ddim": 10, "dpmpp-2m": 10}


@pytest.fixture
def bundles() -> tuple[Bundle, Bundle]:
    torch.set_num_threads(THREADS)
    store = ModelStore(home_of(None))
    try:
        return store.open(MAKER), store.open(EYE)
    except NotFound as error:
        pytest.skip(f"{error}: this file's docstring says how to train it")


class Eye:
    """The vectors of a published classifier."""

    def __init__(self, bundle: Bundle) -> None:
        self.preprocess, self.task = Preprocess.from_json(bundle.preprocess), bundle.task()
        self.modules = self.task.modules(bundle.model())

    def vectors(self, images: np.ndarray) -> np.ndarray:
        """(N, H, W, C) uint8 -> (N, D)"""
        samples, _ = self.preprocess.decode({"image": images})
        batch = to_tensors({"image": self.preprocess.finish(samples)["image"]}, torch.device("cpu"))
        found: np.ndarray = self.task.vectors(self.modules, batch).numpy()
        return found


def made(bundle: Bundle, solver: str, steps: int, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """Images (N, H, W, C) uint8 of some classes, and samples a second; few steps are taken once before, to warm up."""
    args: dict[str, Any] = {**bundle.config["task"]["args"], "guidance": 1.0, "solver": solver, "sample_steps": steps}
    task = build_task({"name": bundle.config["task"]["name"], "args": args})
    modules = task.modules(bundle.model())

    def batch(first: int) -> np.ndarray:
        rows = np.arange(first, first + BATCH)
        asked = {"key": torch.from_numpy(rows), "label": torch.from_numpy(labels[rows])}
        return as_bytes(row["image"] for row in task.predict(modules, asked))

    if steps <= 100:
        batch(0)
    began = time.perf_counter()
    found = [batch(first) for first in range(0, len(labels), BATCH)]
    return np.concatenate(found), len(labels) / (time.perf_counter() - began)


def test_samples_per_second_at_equal_distance(bundles: tuple[Bundle, Bundle]) -> None:
    maker, eye = bundles[0], Eye(bundles[1])
    table = open_source(DataSpec(source="fashion-mnist"), home_of(None)).table("test")
    rows = table.rows(np.arange(SAMPLES))
    found = {}
    with torch.inference_mode():
        real = eye.vectors(rows["image"])
        for solver, steps in WAYS.items():
            images, rate = made(maker, solver, steps, np.asarray(rows["label"]))
            found[solver] = rate, frechet_distance(real.astype(np.float64), eye.vectors(images).astype(np.float64))
    slow, far = found["ddpm"]
    print(f"\n{SAMPLES} samples in batches of {BATCH}; Fréchet distance in the vectors of {EYE}")
    for solver, (rate, distance) in found.items():
        print(
            f"{solver}, {WAYS[solver]} steps: {rate:.2f} samples/s, {rate / slow:.1f} times ddpm's; distance "
            f"{distance:.2f}, {distance / far:.2f} times ddpm's"
        )
