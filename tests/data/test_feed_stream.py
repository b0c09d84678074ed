"""Where the stream builds atoms, and how large its blocks are. What it gives is compared in test_feeds.py."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from dlsvc.data import feed_stream
from dlsvc.data.feed_stream import where


def node(labels: dict[str, str] | None = None, *, alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"Alive": alive, "Resources": resources, "Labels": labels or {}}


H100 = node({"ray.io/accelerator-type": "H100"}, CPU=16, GPU=8)
A10 = node({"ray.io/accelerator-type": "A10G"}, CPU=8, GPU=1)


@pytest.mark.parametrize(
    ("nodes", "labels", "expected"),
    [
        pytest.param([node(CPU=4), node(CPU=4)], {}, ({}, 6.0), id="any node, a CPU each for two trainers"),
        pytest.param([H100, A10], {}, ({}, 22.0), id="only nodes with GPUs"),
        pytest.param(
            [H100, A10, node(CPU=32)],
            {},
            ({"ray.io/accelerator-type": "!in(A10G,H100)"}, None),
            id="away from GPUs where there are others",
        ),
        pytest.param([H100, node(CPU=32, alive=False)], {}, ({}, 14.0), id="a dead node is no node"),
        pytest.param([H100, node(CPU=32)], {"role": "data"}, ({"role": "data"}, None), id="labels that were asked for"),
    ],
)
def test_where(nodes: list[dict[str, Any]], labels: dict[str, str], expected: Any) -> None:
    assert where(nodes, labels, world_size=2) == expected


class Slow:
    """Atoms of 1 MiB, each built in `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def build(self, step: int, atom: int) -> dict[str, np.ndarray]:
        time.sleep(self.seconds)
        return {"image": np.zeros(2**20, np.uint8)}


def test_blocks_end_at_what_moves_well_or_is_built_in_a_moment() -> None:
    assert feed_stream._most_steps(Slow(0.0001), 0, 4) == 4  # 16 MiB
    assert feed_stream._most_steps(Slow(0.3), 0, 1) == 3  # 0.9 s
    assert feed_stream._most_steps(Slow(0.3), 0, 8) == 1


def test_blocks_begin_small_and_double() -> None:
    assert [len(steps) for steps in feed_stream._runs_of_steps(3, 53, 16)] == [4, 8, 16, 16, 6]
    assert [len(steps) for steps in feed_stream._runs_of_steps(0, 5, 2)] == [2, 2, 1]
