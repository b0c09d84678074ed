"""The plan: every sample once an epoch, the same for anybody who asks, and windows that keep reading local."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlsvc.data.order import Order, Shuffled, Windowed
from dlsvc.data.plan import Plan, fingerprint

repeatable = settings(deadline=None, derandomize=True, database=None, max_examples=60)

orders = st.one_of(
    st.integers(1, 200).map(Shuffled),
    st.builds(
        Windowed, st.lists(st.integers(1, 30), min_size=1, max_size=12).map(tuple), window_rows=st.integers(1, 80)
    ),
)


def order_of(plan: Plan, start: int, stop: int) -> np.ndarray:
    return plan.ids(np.arange(start, stop, dtype=np.int64))


@repeatable
@given(orders, st.integers(0, 2**63 - 1), st.integers(0, 3))
def test_every_sample_stands_once_in_an_epoch(order: Order, seed: int, epoch: int) -> None:
    count = len(order)
    found = order_of(Plan(seed, order, 8, 4), epoch * count, (epoch + 1) * count)
    assert sorted(found.tolist()) == list(range(count))


@repeatable
@given(orders, st.integers(1, 50), st.randoms())
def test_a_position_has_one_id_however_it_is_asked_for(order: Order, size: int, draws: object) -> None:
    plan = Plan(3, order, 8, 4)
    positions = np.arange(2 * len(order), dtype=np.int64)
    whole = plan.ids(positions)
    shuffled = np.asarray(draws.sample(positions.tolist(), min(size, len(positions))), np.int64)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(plan.ids(shuffled), whole[shuffled])


@pytest.mark.parametrize("order", [Shuffled(500), Windowed((50,) * 10, 100)])
def test_epochs_and_seeds_have_orders_of_their_own(order: Order) -> None:
    first = order_of(Plan(0, order, 8, 4), 0, 500)
    assert (order_of(Plan(0, order, 8, 4), 500, 1000) != first).mean() > 0.9
    assert (order_of(Plan(1, order, 8, 4), 0, 500) != first).mean() > 0.9


def test_a_window_reads_few_groups() -> None:
    """Any 100 samples in a row come from the two windows of 200 rows that they can touch: at most 8 of 100 groups."""
    order = Windowed((50,) * 100, 200)
    ids = order_of(Plan(0, order, 8, 4), 0, len(order))
    assert max(len(set((part // 50).tolist())) for part in np.split(ids, 50)) <= 8
    assert len(set((ids[:200] // 50).tolist())) == 4


def test_windows_mix_groups() -> None:
    ids = order_of(Plan(0, Windowed((50,) * 8, 200), 8, 4), 0, 200)
    groups = np.bincount(ids[:50] // 50, minlength=8)
    assert (groups[groups > 0] < 30).all()


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_workers_share_the_atoms_of_a_step(world_size: int) -> None:
    plan = Plan(0, Shuffled(100), 32, 8)
    rounds = [plan.assignment(rank, world_size) for rank in range(world_size)]
    assert sorted(atom for atoms in rounds for atom in atoms if atom is not None) == [0, 1, 2, 3]
    assert len({len(atoms) for atoms in rounds}) == 1


def test_fingerprint_tells_who_stood_where() -> None:
    plan = Plan(0, Shuffled(100), 32, 8)
    parts = [plan.positions(2, atom) for atom in (3, 0, 2, 1)]
    total = sum(fingerprint(part, plan.ids(part)) for part in parts)
    assert (total - plan.fingerprint(2)) % 2**64 == 0
    swapped = plan.ids(parts[0])[::-1].copy()
    assert fingerprint(parts[0], swapped) != fingerprint(parts[0], plan.ids(parts[0]))
