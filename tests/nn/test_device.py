"""What a process computes on, and that it computes repeatably there."""

from __future__ import annotations

import pytest
import torch

from dlsvc.errors import UsageError
from dlsvc.nn.device import CPU, open_device


def test_an_operation_that_cannot_repeat_raises() -> None:
    assert open_device("cpu") == CPU
    ready = torch.zeros(2), torch.tensor([0, 0]), torch.tensor([1.0, 2.0])
    with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
        ready[0].put_(ready[1], ready[2])


def test_float32_is_float32() -> None:
    open_device("cpu")
    assert torch.backends.cudnn.conv.fp32_precision == torch.backends.cuda.matmul.fp32_precision == "ieee"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_said() -> None:
    with pytest.raises(UsageError, match=r"a GPU is asked for, and torch .* sees none here; `dlsvc doctor`"):
        open_device("cuda")
