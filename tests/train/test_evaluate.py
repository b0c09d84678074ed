"""Evaluation's sums, where there is nothing to add."""

from __future__ import annotations

import pytest

from dlsvc.errors import DataError
from dlsvc.tasks.base import Metrics
from dlsvc.tasks.classification import Classification
from dlsvc.train.evaluate import conclude


def test_a_split_of_which_nothing_can_be_decoded_is_told() -> None:
    for parts in ([], [(0, Metrics())]):
        with pytest.raises(DataError, match="no sample of the split .* could be decoded"):
            conclude(Classification(), parts)
