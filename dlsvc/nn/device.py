"""The device that a process computes on, set so that it computes the same every time."""

from __future__ import annotations

import os

import torch

from dlsvc.errors import UsageError

CPU = torch.device("cpu")


def open_device(name: str, place: int = 0) -> torch.device:
    """`cpu`, or of the GPUs that this process sees the one whose turn `place` is, counted around. This process computes
    repeatably from here on. Raises UsageError where there is no GPU.
    """
    _repeatable()
    if name == "cpu":
        return CPU
    if not torch.cuda.is_available():
        build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a build for CPUs only"
        raise UsageError(
            f"a GPU is asked for, and torch {torch.__version__}, {build}, sees none here; `dlsvc doctor` says more"
        )
    device = torch.device("cuda", place % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def _repeatable() -> None:
    """Only kernels that give the same bits every time, and float32 that is float32: an operation without such a kernel
    raises.
    """
    # cuBLAS reads it when it is first used. Without, products of several streams share memory and round by chance.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # Deterministic mode would write NaN over every new tensor before its kernel fills it: a third of a CNN's step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # Timing kernels against each other picks one by chance.
    torch.backends.cudnn.benchmark = False
    # By default convolutions round float32 to 10 bits on GPUs.
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = "ieee"
