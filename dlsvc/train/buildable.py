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
    from dlsvc.nn.lora import adapt
    from dlsvc.store.bundle import build_task

    spec = complete(spec)
    model, task = spec.model.model_dump(), spec.task.model_dump()
    whole, no_model = _tried(lambda: _model_without_weights(model))
    objective, no_task = _tried(lambda: build_task(task))
    for section, part, error in (("model.args", model, no_model), ("task.args", task, no_task)):
        if error is not None:
            yield section, _said(error, f"{part['name']} can't be built of these")
    if no_model or no_task:
        return
    lora = spec.lora
    if lora is not None:
        _, no_target = _tried(lambda: adapt(whole, **lora.model_dump()))
        if no_target is not None:
            yield "lora", _said(no_target, "can't be applied")
    _, no_use = _tried(lambda: objective.modules(whole))
    if no_use is not None:
        section = "task.args" if isinstance(no_use, DlsvcError) else "task.name"
        yield section, _said(no_use, f"task {task['name']} doesn't find what it trains in model {model['name']}")


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


def _tried(build: Callable[[], Any]) -> tuple[Any, Exception | None]:
    """What comes of it, or why nothing does."""
    try:
        return build(), None
    except (DlsvcError, *_REFUSALS) as error:
        return None, error


def _said(error: Exception, otherwise: str) -> str:
    """Our own errors say what would be right; torch's and Python's need to be told of what."""
    return str(error) if isinstance(error, DlsvcError) else f"{otherwise}: {error}"


# Beside a spec's own rules, for a command that may import torch, which it does only where the spec is sound otherwise.
RULES = (Rule(("model", "task", "lora"), unbuildable),)
