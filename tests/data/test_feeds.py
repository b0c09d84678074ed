"""Both feeds give the plan's atoms, byte for byte, however many workers there are and whoever dies."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlsvc.data.feed_resident import Round
from dlsvc.data.feed_stream import PlannedData, StreamSource, stream_feed
from dlsvc.data.source import open_source
from dlsvc.data.table import ResidentTable, content_fingerprint
from dlsvc.spec.data_sections import StreamSpec
from dlsvc.train.feeding import atom_builder, resident
from dlsvc.train.job import Job
from dlsvc.train.prepare import open_run, prepare_job
from tests.train.trials import spec_of

pytestmark = pytest.mark.usefixtures("ray_cluster")
STEPS = 24
AUGMENT = [
    {"name": "flip"},
    {"name": "rotation", "max_degrees": 20},
    {"name": "brightness"},
    {"name": "gaussian-noise"},
    {"name": "erasing"},
    {"name": "mixup"},
]

Digests = dict[tuple[int, int], str]


@pytest.fixture(scope="module")
def job(home: Path, ray_cluster: None) -> Job:
    spec = spec_of("lenet5", data__augment=AUGMENT, batch__micro_size=8, budget__steps=STEPS)
    spec, run = open_run(spec, "feeds", home)
    return prepare_job(spec, run, home)


@pytest.fixture(scope="module")
def planned(job: Job) -> Digests:
    """What one worker with the resident feed sees."""
    return digests(resident(table_of(job), job, 0, 0, 1))


def table_of(job: Job) -> ResidentTable:
    return ResidentTable(open_source(job.spec.data, Path(job.home)).table("train").arrays())


def digests(rounds: Iterator[Round]) -> Digests:
    """sha256 of each atom's names, types, shapes and bytes, by step and atom."""
    found = {}
    for step, atom, arrays in rounds:
        if atom is not None:
            found[step, atom] = content_fingerprint(arrays)
    return found


def streams(job: Job, world_size: int, start: int = 0, actors: int = 2, builder: Any = None) -> list[Any]:
    source = StreamSource(
        job.plan,
        job.total_steps,
        builder or functools.partial(atom_builder, job),
        lambda: start,
        print,
        StreamSpec(actors=actors, cpu=0.25),
    )
    return [split["train"] for split in PlannedData(source).configure({}, world_size)]


def test_plan_covers_every_atom(job: Job, planned: Digests) -> None:
    assert sorted(planned) == [(step, atom) for step in range(STEPS) for atom in range(8)]
    assert len(set(planned.values())) == len(planned)


@pytest.mark.parametrize("world_size", [2, 4])
def test_resident_feed_gives_the_plan(world_size: int, job: Job, planned: Digests) -> None:
    parts = [digests(resident(table_of(job), job, 0, rank, world_size)) for rank in range(world_size)]
    assert sum(map(len, parts)) == len(planned)
    assert functools.reduce(lambda one, two: one | two, parts) == planned


@pytest.mark.parametrize(("world_size", "start"), [(1, 0), (2, 0), (4, 0), (3, 7)])
def test_stream_gives_the_plan(world_size: int, start: int, job: Job, planned: Digests) -> None:
    parts = together(streams(job, world_size, start), start)
    assert sum(map(len, parts)) == 8 * (STEPS - start)
    merged = functools.reduce(lambda one, two: one | two, parts)
    assert merged == {place: digest for place, digest in planned.items() if place[0] >= start}


def test_masks_are_equal_in_both_feeds_and_follow_their_images(home: Path, ray_cluster: None) -> None:
    spec, run = open_run(spec_of("unet", budget__steps=STEPS), "mask-feeds", home)
    job = prepare_job(spec, run, home)
    rounds = list(resident(open_source(spec.data, home).table("train"), job, 0, 0, 1))
    planned = digests(iter(rounds))
    assert digests(stream_feed(streams(job, 1)[0], 0)) == planned
    image, mask = (np.concatenate([arrays[name] for _, _, arrays in rounds if arrays]) for name in ("image", "mask"))
    assert mask.dtype == np.int64
    assert mask.shape == (STEPS * 64, 16, 16)
    # Nuclei are bright: a mask that stayed while its image turned would lie on the dark ground, too.
    bright = image[:, 0]
    inside = np.array(
        [
            one[seen == 1].mean() - one[seen == 0].mean()
            for one, seen in zip(bright, mask, strict=True)
            if 0 < seen.sum() < seen.size
        ]
    )
    assert (inside > 0).mean() > 0.99


def test_stream_gives_the_plan_after_an_actor_is_killed(job: Job, planned: Digests, tmp_path: Path) -> None:
    builder = functools.partial(DiesOnce, functools.partial(atom_builder, job), tmp_path / "died")
    parts = together(streams(job, 2, builder=builder))
    assert (tmp_path / "died").exists()
    assert parts[0] | parts[1] == planned


class DiesOnce:
    """A builder whose process is killed at step 9, the first time that it gets there."""

    def __init__(self, make: Any, died: Path) -> None:
        self.builder, self.died = make(), died

    def build(self, step: int, atom: int) -> dict[str, Any]:
        return self.build_all([(step, atom)])

    def build_all(self, places: list[tuple[int, int]]) -> dict[str, Any]:
        if any(step == 9 for step, _ in places) and not self.died.exists():
            self.died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        built: dict[str, Any] = self.builder.build_all(places)
        return built


def together(shards: list[Any], start: int = 0) -> list[Digests]:
    """What each worker sees, all reading at once as workers do."""
    with ThreadPoolExecutor(len(shards)) as pool:
        return list(pool.map(lambda shard: digests(stream_feed(shard, start)), shards))
