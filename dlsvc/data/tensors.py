"""From arrays to tensors, in one way for training, evaluation and serving."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dlsvc.data.atom import Arrays


def to_tensors(arrays: Arrays, device: torch.device) -> dict[str, torch.Tensor]:
    """A batch's arrays as tensors on the device, in memory of torch's own; images (B, C, H, W) lie channels last, as
    the fastest convolutions read and write them.

    Copied always: kernels round by alignment and by strides, and an array's depend on where it comes from. To a GPU
    from pages that stay where they are, so that the process needn't wait for the copy.
    """
    pinned = device.type == "cuda"
    own = {name: _own(name, array, pinned) for name, array in arrays.items() if name != "position"}
    return {name: tensor.to(device, non_blocking=pinned) for name, tensor in own.items()}


def _own(name: str, array: NDArray[Any], pinned: bool) -> torch.Tensor:
    """A copy, also of an array that may only be read, as those in Ray's shared memory."""
    dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
    layout = torch.channels_last if name == "image" and array.ndim == 4 else torch.contiguous_format
    tensor = torch.empty(array.shape, dtype=dtype, memory_format=layout, pin_memory=pinned)
    np.copyto(tensor.numpy(), array)
    return tensor
