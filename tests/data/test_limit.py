"""Fewer training samples: exactly so many, by the seed, each class in its proportion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlsvc.data.limit import chosen
from dlsvc.data.source import open_source
from dlsvc.errors import DataError
from dlsvc.spec.data_sections import DataSpec
from dlsvc.spec.load import identity, resolve
from dlsvc.train.feeding import atom_builder
from dlsvc.train.prepare import open_run, prepare_job
from tests.train.trials import spec_of


@settings(deadline=None, derandomize=True, database=None, max_examples=60)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.data(), st.integers(0, 2**63 - 1))
def test_every_class_has_its_share(labels: list[int], data: st.DataObject, seed: int) -> None:
    all_labels = np.asarray(labels, np.int64)
    limit = data.draw(st.integers(1, len(labels)))
    found = chosen(len(labels), all_labels, limit, seed)
    assert len(found) == limit
    assert (np.diff(found) > 0).all()
    share = np.bincount(all_labels) * limit / len(labels)
    assert (np.abs(np.bincount(all_labels[found], minlength=len(share)) - share) < 1).all()
    again = chosen(len(labels), all_labels, limit, seed)
    np.testing.assert_array_equal(found, again)


def test_seeds_differ_and_smaller_choices_lie_within_larger_ones() -> None:
    labels = np.arange(1000) % 10
    one, other, larger = (chosen(1000, labels, limit, seed) for limit, seed in ((100, 1), (100, 2), (300, 1)))
    assert len(np.intersect1d(one, other)) < 30
    assert np.isin(one, larger).all()
    unlabelled = chosen(1000, None, 100, 1)
    assert np.isin(unlabelled, chosen(1000, None, 300, 1)).all()


def test_the_training_split_shrinks_and_the_test_split_stays(data_home: Path) -> None:
    data = DataSpec(source="digits", limit=120)
    source = open_source(data, data_home, seed=4)
    whole = open_source(DataSpec(source="digits"), data_home)
    assert len(source.table("train")) == 120
    assert len(source.table("test")) == len(whole.table("test"))
    labels = source.table("train").rows(np.arange(120))["label"]
    assert np.bincount(labels).min() >= 11
    left = source.table("left-out")
    assert len(left) == 1500 - 120
    pixels = {row.tobytes() for row in source.table("train").rows(np.arange(120))["image"]}
    assert sum(row.tobytes() in pixels for row in left.rows(np.arange(len(left)))["image"]) < 5
    assert "left-out" not in whole.splits
    prints = {open_source(data, data_home, seed=seed).table("train").fingerprint for seed in (4, 4, 5)}
    assert len(prints) == 2
    with pytest.raises(DataError, match=r"data\.limit is 5000, and digits has 1500 training samples"):
        open_source(DataSpec(source="digits", limit=5000), data_home).table("train")


def test_a_run_learns_from_the_same_samples_wherever_it_opens_them(home: Path) -> None:
    spec = spec_of("lenet5", data__limit=120)
    settled, run = open_run(spec, "limited", home)
    job = prepare_job(settled, run, home)
    assert len(job.order) == 120
    built = atom_builder(job).build(0, 0)
    chosen_rows = open_source(spec.data, home, seed=spec.seed).table("train").rows(built["id"])
    np.testing.assert_array_equal(built["label"], chosen_rows["label"])
    assert identity(settled) != identity(resolve(spec_of("lenet5")))
