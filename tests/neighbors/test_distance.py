"""Distances and neighbours against their definitions, written out."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dlsvc.errors import UsageError
from dlsvc.neighbors import distance
from dlsvc.neighbors.distance import METRICS, knn_accuracy, nearest, principal_plane, similarities, vote


def test_the_course_s_three() -> None:
    one, two = np.array([[3.0, 4.0]]), np.array([[4.0, 3.0], [0.0, 0.0]])
    np.testing.assert_allclose(similarities(one, two, "dot"), [[24, 0]])
    np.testing.assert_allclose(similarities(one, two, "cosine"), [[24 / 25, 0]])
    np.testing.assert_allclose(similarities(one, two, "euclidean"), [[-np.sqrt(2), -5]])
    with pytest.raises(UsageError, match="cosine, euclidean, dot, not 'manhattan'"):
        similarities(one, two, "manhattan")


whole = arrays(np.float64, (7, 3), elements=st.integers(-3, 3).map(float))


@given(vectors=whole, k=st.integers(1, 6), metric=st.sampled_from(METRICS))
def test_nearest_is_a_stable_sort_without_the_query_itself(vectors: np.ndarray, k: int, metric: str) -> None:
    places, values = nearest(vectors, vectors, k, metric, own=np.arange(7))
    scores = similarities(vectors, vectors, metric)
    for row in range(7):
        others = [place for place in np.argsort(-scores[row], kind="stable") if place != row]
        assert places[row].tolist() == others[:k]
        assert values[row].tolist() == scores[row][others[:k]].tolist()


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("cells", [1, 7, 48, 120])
def test_blocks_change_nothing(cells: int, own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of vectors and of queries, down to one; many vectors are equal, of which the first comes first."""
    vectors = np.random.default_rng(0).integers(-2, 3, size=(50, 3)).astype(np.float64)
    left_out = np.arange(50) if own else None
    for metric in METRICS:
        expected = nearest(vectors, vectors, 5, metric, own=left_out)
        monkeypatch.setattr(distance, "_CELLS", cells)
        places, values = nearest(vectors, vectors, 5, metric, own=left_out)
        monkeypatch.undo()
        np.testing.assert_array_equal(places, expected[0])
        np.testing.assert_allclose(values, expected[1], atol=1e-12)


def test_memory_is_bounded_by_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two million numbers of vectors are met a few thousand at a time."""
    vectors = np.random.default_rng(0).standard_normal((2**15, 64), dtype=np.float32)
    monkeypatch.setattr(distance, "_CELLS", 2**13)
    nearest(vectors[:1], vectors, 10)
    tracemalloc.start()
    nearest(vectors[:3], vectors, 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < vectors.nbytes / 8


@pytest.mark.parametrize(("k", "own"), [(0, None), (4, None), (3, np.arange(3))])
def test_more_neighbours_than_there_are(k: int, own: np.ndarray | None) -> None:
    with pytest.raises(UsageError, match=f"k is {k}; there are"):
        nearest(np.eye(3), np.eye(3), k, own=own)


def test_vote_goes_by_number_then_by_nearness() -> None:
    assert vote(np.array([[2, 0, 0], [1, 0, 2], [0, 1, 1]]), 3).tolist() == [0, 1, 1]
    assert vote(np.array([[1, 0, 0, 1]]), 2).tolist() == [1]
    assert vote(np.array([[0, 1, 1, 0, 2]]), 3).tolist() == [0]


def test_knn_accuracy_leaves_one_out() -> None:
    vectors = np.array([[0.0], [0.1], [0.2], [5.0], [5.1], [0.15]])
    labels = np.array([0, 0, 0, 1, 1, 1])
    assert knn_accuracy(vectors, labels, 1, "euclidean") == pytest.approx(3 / 6)


def test_principal_plane_finds_the_directions_of_most_variance() -> None:
    draws = np.random.default_rng(0).normal(size=(4000, 3)) * [1, 5, 0.1]
    places, shares = principal_plane(draws)
    np.testing.assert_allclose(np.abs(np.corrcoef(places[:, 0], draws[:, 1])[0, 1]), 1, atol=1e-3)
    np.testing.assert_allclose(shares, [25 / 26.01, 1 / 26.01], atol=0.01)
    np.testing.assert_allclose(places.std(0), [5, 1], rtol=0.05)
    assert np.corrcoef(places[:, 0], draws[:, 1])[0, 1] > 0
    assert principal_plane(draws[:, :1])[0].shape == (4000, 2)
