"""What the table of a layout is written in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """One tensor of theirs and where it goes.

    `ours` has several names when theirs is their concatenation along the first axis. `lead` is how many leading axes of
    length 1 theirs has and ours lacks; -1 when ours has one and theirs is a scalar. `is_optional`: a model may do
    without. `transposed`: theirs has its two axes the other way round.
    """

    theirs: str
    ours: tuple[str, ...]
    lead: int = 0
    is_optional: bool = False
    transposed: bool = False

    @property
    def is_layered(self) -> bool:
        return "{n}" in self.theirs


@dataclass(frozen=True)
class Layout:
    """The rules of a layout. `prefix` may be missing from all names on disk; `renamed` are patterns of what older files
    have within names, and what they are to be read as; names that match `ignored` hold nothing of the model, and ours
    that match `left_out` have no place there.
    """

    rules: tuple[Rule, ...]
    prefix: str = ""
    renamed: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def pair(theirs: str, ours: str) -> tuple[Rule, Rule]:
    """The weight and the bias of a layer."""
    return Rule(f"{theirs}.weight", (f"{ours}.weight",)), Rule(f"{theirs}.bias", (f"{ours}.bias",))


def fused(theirs: str, ours: Iterable[str]) -> tuple[Rule, Rule]:
    """The weights and the biases of several layers in one tensor each."""
    names = tuple(ours)
    weights, biases = tuple(f"{name}.weight" for name in names), tuple(f"{name}.bias" for name in names)
    return Rule(f"{theirs}.weight", weights), Rule(f"{theirs}.bias", biases)


def optional(*rules: Rule) -> tuple[Rule, ...]:
    return tuple(Rule(rule.theirs, rule.ours, rule.lead, True) for rule in rules)


def batch_norm(theirs: str, ours: str) -> tuple[Rule, ...]:
    """What a batch norm learns, and what it counts."""
    parts = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return tuple(Rule(f"{theirs}.{part}", (f"{ours}.{part}",)) for part in parts)


def kernel(theirs: str, ours: str) -> Rule:
    """The weight of a convolution without bias."""
    return Rule(f"{theirs}.weight", (f"{ours}.weight",))
