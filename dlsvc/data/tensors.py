"""From arrays to tensors, in one way for training, evaluation and serving."""

from __future__ import annotations

import torch

from dlsvc.data.atom import Arrays


def to_tensors(arrays: Arrays, device: torch.device) -> dict[str, torch.Tensor]:
    """A batch's arrays as tensors on the device, in memory of torch's own.

    Copied always: kernels round by alignment and by strides, and an array's depend on where it comes from (a channel
    axis of one makes a transposed
    array count as contiguous, and torch takes its strides for channels-last).
    """
    found = {}
    for name, array in arrays.items():
        if name != "position":
            source = torch.from_numpy(array if array.flags.writeable else array.copy())
            found[name] = torch.empty(source.shape, dtype=source.dtype).copy_(source).to(device)
    return found
