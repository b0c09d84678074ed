"""Whether the alias of a spec moves to what a run has published: only if its metrics are as asked."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from typing import Any

from dlsvc.spec.sections import NUMBER_PATTERN, PublishSpec
from dlsvc.store.models import ModelStore

_NUMBER = re.compile(NUMBER_PATTERN)
_COMPARISONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def promote(store: ModelStore, reference: str, metrics: Mapping[str, float], spec: PublishSpec) -> dict[str, Any]:
    """Move the alias, or say why not, for the run's result. The version stays published either way."""
    if spec.alias is None:
        return {}
    model, _, version = reference.partition("@")
    if store.aliases(model).get(spec.alias) == int(version):
        # Moved by an earlier life of the run, or by hand: it can't be better than itself.
        return {"promoted": True, "not_promoted": []} if spec.promote_if else {}
    found = [_refusal(store, reference, name, asked, metrics) for name, asked in spec.promote_if.items()]
    reasons = [reason for reason in found if reason is not None]
    if not reasons:
        store.alias(reference, spec.alias)
    return {"promoted": not reasons, "not_promoted": reasons} if spec.promote_if else {}


def _refusal(store: ModelStore, reference: str, name: str, asked: str, metrics: Mapping[str, float]) -> str | None:
    """Why this condition doesn't hold; None where it does."""
    found = re.fullmatch(r"(<=|>=|<|>) *(.+)", asked)
    assert found is not None, "the spec's pattern was checked"
    sign, right = found.groups()
    limit = _limit(store, reference.partition("@")[0], right, name)
    if limit is None or name in metrics and _COMPARISONS[sign](metrics[name], limit):
        return None
    whose = "" if _NUMBER.fullmatch(right) else f", which is {limit:.6g}"
    value = f"is {metrics[name]:.6g}" if name in metrics else "was not measured"
    return f"{name} {value}; asked for {asked}{whose}"


def _limit(store: ModelStore, model: str, right: str, name: str) -> float | None:
    """The number to compare with. None where an alias points nowhere yet, or its model wasn't measured so: the first
    one wins.
    """
    if _NUMBER.fullmatch(right):
        return float(right)
    if right not in store.aliases(model):
        return None
    value = store.open(f"{model}@{right}").metrics.get(name)
    return None if value is None else float(value)
