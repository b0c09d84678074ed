"""A published model as it is served."""

from __future__ import annotations

import torch

from dlsvc.predictor import Predictor
from dlsvc.store.bundle import Bundle


def served(bundle: Bundle) -> Predictor:
    """Ready to answer, with one intra-op thread in this process: sums are split by the number of threads, and answers
    must be equal wherever they are computed.
    """
    torch.set_num_threads(1)
    return Predictor(bundle)
