"""torchvision, which timm, transformers and diffusers import where it is installed, beside a CPU build of torch. To be
imported before them.
"""

from __future__ import annotations

import importlib.util

import torch

# Its compiled operators don't load there; declaring the two that its Python asks for at import is enough.
_OPERATORS = torch.library.Library("torchvision", "DEF") if importlib.util.find_spec("torchvision") else None
if _OPERATORS is not None:
    for _name in ("nms", "qnms"):
        _OPERATORS.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
