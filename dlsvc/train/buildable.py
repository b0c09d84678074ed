"""Whether the parts of a spec can be built: what only a constructor knows, such as that heads divide a width."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

from dlsvc.errors import DlsvcError, UsageError
from dlsvc.spec.checks import Rule
from dlsvc.spec.resolve import complete
from dlsvc.spec.schema import TrainSpec

# What torch and Python raise for sizes that can't be.
_REFUSALS = (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError)


def unbuildable(spec: TrainSpec) -> Iterator[tuple[str, str]]:
    """The section whose constructor refuses its arguments, and what it says. No memory is taken for weights."""
    from dlsvc.store.bundle import build_task

    spec = complete(spec)
    yield from _refusal("model.args", _model_without_weights, spec.model.model_dump())
    yield from _refusal("task.args", build_task, spec.task.model_dump())


def _model_without_weights(part: dict[str, Any]) -> None:
    """Raises UsageError for a parameter of no elements: torch would make it, and train nothing."""
    import torch

    from dlsvc.store.bundle import build_model

    with torch.device("meta"), warnings.catch_warnings(action="ignore"):
        model = build_model(part)
    for name, parameter in model.named_parameters():
        if not parameter.numel():
            raise UsageError(f"{part['name']} would have {name} of shape {tuple(parameter.shape)}, which holds nothing")


def _refusal(section: str, build: Callable[[Any], object], part: dict[str, Any]) -> Iterator[tuple[str, str]]:
    try:
        build(part)
    except DlsvcError as error:
        yield section, str(error)
    except _REFUSALS as error:
        yield section, f"{part['name']} can't be built of these: {error}"


# Beside a spec's own rules, for a command that may import torch, which it does only where the spec is sound otherwise.
RULES = (Rule(("model", "task"), unbuildable),)
