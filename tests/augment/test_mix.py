"""Mixtures: images and labels mix by the same share, whoever the partner is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dlsvc.augment import keys as random
from dlsvc.augment.mix import CutMix, Mixup, partners
from dlsvc.errors import UsageError

COUNT = 300


def pair() -> tuple[np.ndarray, ...]:
    """Black against white, class 0 against class 1: the mean of an image is the partner's share."""
    zero, one = np.zeros((COUNT, 1, 16, 16), np.float32), np.ones((COUNT, 1, 16, 16), np.float32)
    first, second = (np.tile(row, (COUNT, 1)).astype(np.float32) for row in np.eye(2))
    return zero, first, one, second


def words() -> np.ndarray:
    return random.sample_keys(0, np.zeros(COUNT, np.int64), np.arange(COUNT, dtype=np.int64))


@pytest.mark.parametrize("mixture", [Mixup(0.4), CutMix(1.0)])
def test_labels_mix_as_the_pixels_do(mixture: Mixup | CutMix) -> None:
    images, targets = mixture.mix(*pair(), words())
    np.testing.assert_allclose(targets.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(targets[:, 1], images.mean((1, 2, 3)), atol=1e-6)
    assert images.dtype == targets.dtype == np.float32


def test_cutmix_lays_one_patch() -> None:
    images, _ = CutMix(1.0).mix(*pair(), words())
    for image in images[:50, 0]:
        rows, columns = image.any(1), image.any(0)
        np.testing.assert_array_equal(image.astype(bool), rows[:, None] & columns[None])
        assert (np.abs(np.diff(rows.astype(int))).sum() <= 2) & (np.abs(np.diff(columns.astype(int))).sum() <= 2)


def test_shares_are_beta_distributed() -> None:
    _, targets = Mixup(0.4).mix(*pair(), words())
    assert stats.kstest(targets[:, 0], stats.beta(0.4, 0.4).cdf).pvalue > 0.01


@pytest.mark.parametrize("mixture", [Mixup(p=0.0), CutMix(p=0.0)])
def test_probability_zero_is_the_identity(mixture: Mixup | CutMix) -> None:
    images, targets, other, theirs = pair()
    found = mixture.mix(images, targets, other, theirs, words())
    np.testing.assert_array_equal(found[0], images)
    np.testing.assert_array_equal(found[1], targets)


@pytest.mark.parametrize("size", [1, 2, 3, 64])
def test_partners_are_others_and_each_is_one_once(size: int) -> None:
    found = partners(5, 9, size)
    assert sorted(found.tolist()) == list(range(size))
    assert size == 1 or (found != np.arange(size)).all()
    assert size < 8 or (partners(5, 10, size) != found).any()


def test_parameters_are_checked() -> None:
    with pytest.raises(UsageError, match="mixup: alpha must be"):
        Mixup(0.0)
    with pytest.raises(UsageError, match="cutmix: p must be in"):
        CutMix(p=2)
