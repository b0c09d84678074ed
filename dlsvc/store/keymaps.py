"""Weights between our names and the layouts that others read from disk: one engine for the rules of every layout.

Nothing is skipped in silence: what a layout lacks and what is left over are errors that list the names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from dlsvc.errors import DataError, UsageError, did_you_mean
from dlsvc.store.layouts import LAYOUTS
from dlsvc.store.layouts.rule import Layout, Rule

Tensors = dict[str, Tensor]


def import_weights(layout: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """Their tensors under our names, as a strict `load_state_dict` takes them. Raises DataError listing what is
    missing or left over.
    """
    chosen = resolve_layout(layout)
    given = _prefixed(_renamed(tensors, chosen.renamed), chosen.prefix)
    kept = {name: tensor for name, tensor in given.items() if not _matches(name, chosen.ignored)}
    found: Tensors = {}
    used: set[str] = set()
    missing: list[str] = []
    for rule, layer in _expanded(chosen.rules, [rule.theirs for rule in chosen.rules], kept):
        name = _numbered(rule.theirs, layer)
        if name in kept:
            used.add(name)
            parts = _parts(name, kept[name], rule)
            found |= {_numbered(ours, layer): part.contiguous() for ours, part in zip(rule.ours, parts, strict=True)}
        elif not rule.is_optional:
            missing.append(name)
    _refuse(layout, "the file", missing, sorted(set(kept) - used))
    return found


def export_weights(layout: str, state: Mapping[str, Tensor]) -> Tensors:
    """Our tensors under their names and in their shapes. Raises DataError listing what is missing or left over."""
    chosen = resolve_layout(layout)
    found: Tensors = {}
    used: set[str] = set()
    missing: list[str] = []
    for rule, layer in _expanded(chosen.rules, [rule.ours[0] for rule in chosen.rules], state):
        names = [_numbered(ours, layer) for ours in rule.ours]
        lacking = [name for name in names if name not in state]
        if not lacking:
            used.update(names)
            whole = torch.cat([state[name] for name in names]) if len(names) > 1 else state[names[0]]
            found[_numbered(rule.theirs, layer)] = _reshaped(
                whole.T if rule.transposed else whole, -rule.lead
            ).contiguous()
        elif not rule.is_optional:
            missing += lacking
    left_over = sorted(name for name in set(state) - used if not _matches(name, chosen.left_out))
    _refuse(layout, "the model", missing, left_over)
    return found


def resolve_layout(layout: str) -> Layout:
    """The layout of that name. Raises UsageError naming the closest one."""
    if layout not in LAYOUTS:
        raise UsageError(f"no weight layout is called {layout!r}{did_you_mean(layout, LAYOUTS)}")
    return LAYOUTS[layout]


def _expanded(rules: tuple[Rule, ...], templates: list[str], names: Iterable[str]) -> list[tuple[Rule, int | None]]:
    """Each rule once, or once a layer: layers run up to the highest number that occurs under the rule's stack."""
    names = list(names)
    depth: dict[str, int] = {}
    for template in templates:
        stack, _, _ = template.partition("{n}")
        numbers = [int(hit[1]) for name in names if (hit := re.match(re.escape(stack) + r"(\d+)\.", name))]
        depth[stack] = max(numbers, default=-1) + 1
    found: list[tuple[Rule, int | None]] = []
    for rule, template in zip(rules, templates, strict=True):
        layers = range(depth[template.partition("{n}")[0]]) if rule.is_layered else [None]
        found += [(rule, layer) for layer in layers]
    return found


def _numbered(template: str, layer: int | None) -> str:
    return template if layer is None else template.replace("{n}", str(layer))


def _prefixed(tensors: Mapping[str, Tensor], prefix: str) -> Mapping[str, Tensor]:
    """A body saved by itself lacks the prefix that it has within a whole model."""
    if not prefix or any(name.startswith(prefix) for name in tensors):
        return tensors
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _renamed(tensors: Mapping[str, Tensor], renamed: Iterable[tuple[str, str]]) -> Mapping[str, Tensor]:
    """Names of older files as newer ones have them."""
    found = dict(tensors)
    for pattern, name in renamed:
        found = {re.sub(pattern, name, key): tensor for key, tensor in found.items()}
    return found


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def _parts(name: str, tensor: Tensor, rule: Rule) -> tuple[Tensor, ...]:
    """A tensor of theirs as those of ours, in the rule's order."""
    try:
        whole = _reshaped(tensor.T if rule.transposed else tensor, rule.lead)
        # A counter has no axis to be cut along.
        parts = whole.chunk(len(rule.ours)) if len(rule.ours) > 1 else (whole,)
    except RuntimeError as error:
        raise DataError(f"the file's {name} has shape {tuple(tensor.shape)}: {error}") from error
    if len(parts) != len(rule.ours):
        raise DataError(f"the file's {name} has shape {tuple(tensor.shape)}, which is not {len(rule.ours)} of one size")
    return parts


def _reshaped(tensor: Tensor, lead: int) -> Tensor:
    """Drop `lead` leading axes, or add some when it is negative."""
    return tensor.reshape(tensor.shape[lead:]) if lead >= 0 else tensor.reshape((1,) * -lead + tuple(tensor.shape))


def _refuse(layout: str, what: str, missing: list[str], left_over: list[str]) -> None:
    problems = [
        f"{label}: {', '.join(names[:8])}{f' and {len(names) - 8} more' if len(names) > 8 else ''}"
        for label, names in (("it lacks", missing), ("nothing takes", left_over))
        if names
    ]
    if problems:
        raise DataError(f"{what} doesn't fit the layout {layout!r}; {'; '.join(problems)}")
