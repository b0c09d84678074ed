"""Whether the parts of a spec can be built: what only a constructor knows, such as that heads divide a width; and
whether the task finds in the model what it trains.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from dlsvc.errors import DlsvcError, UsageError
from dlsvc.spec.checks import Rule
from dlsvc.spec.resolve import complete
from dlsvc.spec.schema import TrainSpec

if TYPE_CHECKING:
    from torch import nn

# What torch and Python raise for sizes that can't be, and for parts that aren't there.
_REFUSALS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def unbuildable(spec: TrainSpec) -> Iterator[tuple[str, str]]:
    """The section whose constructor refuses its arguments, and what it says; if none does, whether the task has no use
    for such a model. No memory is taken for weights.
    """
    from dlsvc.store.bundle import build_task

    spec = complete(spec)
    model, task = spec.model.model_dump(), spec.task.model_dump()
    built: list[Any] = []
    refused = list(_refusal("model.args", lambda: built.append(_model_without_weights(model)), model["name"]))
    refused += _refusal("task.args", lambda: built.append(build_task(task)), task["name"])
    yield from refused
    if not refused:
        whole, objective = built
        yield from _unusable(model["name"], task["name"], lambda: objective.modules(whole))


def _model_without_weights(part: dict[str, Any]) -> nn.Module:
    """Raises UsageError for a parameter of no elements: torch would make it, and train nothing."""
    import torch

    from dlsvc.store.bundle import build_model

    with torch.device("meta"), warnings.catch_warnings(action="ignore"):
        model = build_model(part)
    for name, parameter in model.named_parameters():
        if not parameter.numel():
            raise UsageError(f"{part['name']} would have {name} of shape {tuple(parameter.shape)}, which holds nothing")
    return model


def _refusal(section: str, build: Callable[[], object], name: str) -> Iterator[tuple[str, str]]:
    try:
        build()
    except DlsvcError as error:
        yield section, str(error)
    except _REFUSALS as error:
        yield section, f"{name} can't be built of these: {error}"


def _unusable(model: str, task: str, modules: Callable[[], object]) -> Iterator[tuple[str, str]]:
    try:
        modules()
    except DlsvcError as error:
        yield "task.args", str(error)
    except _REFUSALS as error:
        yield "task.name", f"task {task} doesn't find what it trains in model {model}: {error}"


# Beside a spec's own rules, for a command that may import torch, which it does only where the spec is sound otherwise.
RULES = (Rule(("model", "task"), unbuildable),)
