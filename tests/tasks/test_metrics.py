"""Sums and rows that merge exactly."""

from __future__ import annotations

import numpy as np
import torch

from dlsvc.tasks.base import Metrics


def test_rows_come_back_in_the_order_of_ids_however_they_were_merged() -> None:
    first, second = Metrics(), Metrics()
    first.collect(torch.tensor([5, 1]), vector=torch.tensor([[5.0], [1.0]]))
    second.collect(torch.tensor([0, 9, 3]), vector=torch.tensor([[0.0], [9.0], [3.0]], dtype=torch.bfloat16))
    whole = Metrics()
    whole.merge(second)
    whole.merge(first)
    np.testing.assert_array_equal(whole.rows("vector"), [[0.0], [1.0], [3.0], [5.0], [9.0]])


def test_sums_add_in_float64() -> None:
    whole = Metrics()
    for _ in range(2):
        shard = Metrics()
        shard.add(count=3, vector=torch.tensor([2**24 + 1, 1]))
        whole.merge(shard)
    whole.add(count=1.0)
    assert whole.sums["count"] == 7
    np.testing.assert_array_equal(whole.sums["vector"], [2 * (2**24 + 1), 2])
