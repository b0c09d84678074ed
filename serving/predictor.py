"""A published model as it is served."""

from __future__ import annotations

import torch

from dlsvc.nn.device import open_device
from dlsvc.predictor import BATCH_SIZE, Predictor
from dlsvc.store.bundle import Bundle


def served(bundle: Bundle, device: str = "cpu") -> Predictor:
    """Ready to answer on the CPU or a GPU (`cuda`), with one intra-op thread in this process: sums are split by the
    number of threads, and answers must be equal wherever they are computed.
    """
    torch.set_num_threads(1)
    return Predictor(bundle, BATCH_SIZE, open_device(device))
