"""Distances between sets of features, against values known in closed form or by the definition, pair by pair."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dlsvc.errors import DataError
from dlsvc.metrics import distribution
from dlsvc.metrics.distribution import fidelity, frechet_distance, kernel_distance, precision_recall


def _draw(count: int, num_features: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, num_features))


def _exactly(count: int, mean: np.ndarray, covariance: np.ndarray, seed: int) -> np.ndarray:
    """A sample whose mean and unbiased covariance are exactly these."""
    rows = _draw(count, len(mean), seed)
    rows -= rows.mean(0)
    whitened = rows @ np.linalg.inv(np.linalg.cholesky(np.cov(rows, rowvar=False))).T
    return whitened @ np.linalg.cholesky(covariance).T + mean


def test_frechet_distance_of_gaussians_with_commuting_covariances() -> None:
    one = _exactly(50, np.zeros(3), np.diag([1.0, 4.0, 9.0]), 0)
    other = _exactly(70, np.array([1.0, 2.0, 2.0]), np.diag([4.0, 1.0, 9.0]), 1)
    # |mean|² is 9, and each pair of deviations s, t adds (s - t)²: 1, 1 and 0.
    assert frechet_distance(one, other) == pytest.approx(11.0, abs=1e-9)


def test_frechet_distance_of_gaussians_that_do_not_commute() -> None:
    first, second = np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([[3.0, 0.0], [0.0, 1.0]])
    one, other = _exactly(40, np.zeros(2), first, 2), _exactly(40, np.zeros(2), second, 3)
    # In two dimensions the trace of the root of a product P is sqrt(tr P + 2 sqrt(det P)).
    product = first @ second
    shared = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    assert frechet_distance(one, other) == pytest.approx(8 - 2 * shared, abs=1e-9)


def test_frechet_distance_with_fewer_samples_than_features_is_real() -> None:
    rows = _draw(10, 64, 4)
    assert frechet_distance(rows, rows) == pytest.approx(0.0, abs=1e-6)
    assert frechet_distance(rows, rows + 0.5) == pytest.approx(16.0, abs=1e-4)


def test_kernel_distance_is_the_mean_over_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution, "_BLOCK", 7)
    real, made = _draw(15, 4, 5), _draw(12, 4, 6) + 0.3

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 4 + 1) ** 3)

    within = sum(np.mean([kernel(x, y) for x, y in itertools.permutations(part, 2)]) for part in (real, made))
    across = np.mean([kernel(x, y) for x in real for y in made])
    assert kernel_distance(real, made) == pytest.approx(within - 2 * across, abs=1e-12)


def test_kernel_distance_is_zero_in_the_mean_for_one_distribution() -> None:
    found = [kernel_distance(_draw(60, 5, seed), _draw(60, 5, seed + 1000)) for seed in range(200)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))
    assert min(found) < 0 < max(found)


def test_precision_and_recall_see_what_is_left_out_and_what_is_made_up() -> None:
    left, right = _draw(40, 2, 7), _draw(40, 2, 8) + 100
    both = np.concatenate([left, right])
    # Half of the real ones is never made; everything that is made is real.
    assert precision_recall(both, left) == (1.0, 0.5)
    assert precision_recall(left, both) == (0.5, 1.0)
    assert precision_recall(left, right) == (0.0, 0.0)


def test_blocks_do_not_change_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    real, made = _draw(50, 6, 9), _draw(45, 6, 10) * 1.2
    whole = fidelity(real, made)
    monkeypatch.setattr(distribution, "_BLOCK", 11)
    assert fidelity(real, made) == pytest.approx(whole, rel=1e-12)


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(DataError, match="7 made samples say nothing"):
        fidelity(_draw(20, 2, 0), _draw(7, 2, 1))
