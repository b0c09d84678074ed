"""Atoms: the same samples and the same bits however the global batch is cut and whoever builds a part of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlsvc.augment.pipeline import Pipeline
from dlsvc.augment.registry import build_augmentations
from dlsvc.data.atom import AtomBuilder
from dlsvc.data.feed_resident import resident_feed
from dlsvc.data.fit import build_preprocess
from dlsvc.data.order import Shuffled
from dlsvc.data.plan import Plan
from dlsvc.data.quarantine import Quarantine
from dlsvc.data.source import open_source
from dlsvc.spec.schema import DataSpec

LISTS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "geometry-and-colour": [{"name": "rotation"}, {"name": "shift", "max_pixels": 1}, {"name": "jitter"}],
    "with-noise": [{"name": "flip"}, {"name": "gaussian-noise"}, {"name": "erasing"}],
    "mixed": [{"name": "flip"}, {"name": "mixup"}, {"name": "cutmix", "p": 0.5}],
}


def builder(home: Path, augment: list[dict[str, Any]], micro_size: int) -> AtomBuilder:
    data = DataSpec.model_validate({"source": "digits", "augment": tuple(augment)})
    source = open_source(data, home)
    table = source.table("train")
    pipeline = Pipeline(tuple(build_augmentations(data.augment)))
    plan, preprocess = Plan(3, Shuffled(len(table)), 32, micro_size), build_preprocess(data, source)
    return AtomBuilder(plan, table, preprocess, Quarantine(len(table), 0), pipeline)


@pytest.mark.parametrize("name", LISTS)
def test_atoms_of_any_size_make_one_global_batch(name: str, data_home: Path) -> None:
    """Mixing too: partners are places of the global batch, not of the atom."""
    whole = builder(data_home, LISTS[name], 32).build(5, 0)
    for micro_size in (8, 16):
        parts = [builder(data_home, LISTS[name], micro_size).build(5, atom) for atom in range(32 // micro_size)]
        for key, value in whole.items():
            np.testing.assert_array_equal(np.concatenate([part[key] for part in parts]), value)


def test_mixed_targets_are_probabilities_of_two_classes(data_home: Path) -> None:
    batch = builder(data_home, [{"name": "mixup", "alpha": 1.0}], 32).build(0, 0)
    np.testing.assert_allclose(batch["target"].sum(1), 1, atol=1e-6)
    assert ((batch["target"] > 0).sum(1) <= 2).all()
    own = batch["target"][np.arange(32), batch["label"]]
    assert 0.3 < own.mean() < 0.8


def test_augmentation_changes_with_the_epoch_and_not_with_the_run(data_home: Path) -> None:
    plain, moved = (builder(data_home, LISTS[name], 32) for name in ("none", "geometry-and-colour"))
    first, again = moved.build(0, 0), builder(data_home, LISTS["geometry-and-colour"], 32).build(0, 0)
    np.testing.assert_array_equal(first["image"], again["image"])
    assert (first["image"] != plain.build(0, 0)["image"]).any()
    epoch = -(-len(plain.table) // 32)
    ids = {int(sample): place for place, sample in enumerate(first["id"])}
    later = [moved.build(step, 0) for step in range(epoch, 2 * epoch)]
    pairs = [(ids[int(i)], image) for b in later for i, image in zip(b["id"], b["image"], strict=True) if int(i) in ids]
    assert len(pairs) >= 30
    assert all((first["image"][place] != image).any() for place, image in pairs)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_resident_feed_gives_each_rank_its_atoms(world_size: int, data_home: Path) -> None:
    made = builder(data_home, [], 8)
    seen = []
    for rank in range(world_size):
        for step, atom, arrays in resident_feed(made, start=2, stop=4, rank=rank, world_size=world_size):
            np.testing.assert_array_equal(arrays["id"], made.build(step, atom or 0)["id"])
            seen += [(step, atom)] if atom is not None else []
    assert sorted(seen) == [(step, atom) for step in (2, 3) for atom in range(4)]
