"""Parameters by glob: groups with their own learning rate and decay, and freezing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from dlsvc.nn.names import matching

NamedParameters = Sequence[tuple[str, nn.Parameter]]


class GroupOptions(Protocol):
    """What a spec says of a group: globs, and what differs. A weight decay or L1 of None is the optimizer's own."""

    @property
    def params(self) -> Sequence[str]: ...
    @property
    def lr_factor(self) -> float: ...
    @property
    def weight_decay(self) -> float | None: ...
    @property
    def l1(self) -> float | None: ...


@dataclass(frozen=True)
class Group:
    """Parameters, in the model's order, with their learning rate's factor, their weight decay and their L1."""

    parameters: tuple[nn.Parameter, ...]
    lr_factor: float
    weight_decay: float
    l1: float


def split(named: NamedParameters, groups: Sequence[GroupOptions], weight_decay: float, l1: float) -> list[Group]:
    """Trainable parameters into groups: a parameter belongs to the first group that matches it, the rest to a last
    one.
    """
    names = [name for name, _ in named]
    left = {name: parameter for name, parameter in named if parameter.requires_grad}
    found = []
    for place, options in enumerate(groups):
        hits = matching(options.params, names, where=f"optim.groups[{place}].params")
        taken = tuple(left.pop(name) for name in names if name in hits and name in left)
        decay = weight_decay if options.weight_decay is None else options.weight_decay
        found.append(Group(taken, options.lr_factor, decay, l1 if options.l1 is None else options.l1))
    found.append(Group(tuple(left.values()), 1.0, weight_decay, l1))
    return [group for group in found if group.parameters]


def freeze(model: nn.Module, globs: Sequence[str]) -> None:
    """Take the matched parameters out of training."""
    named = dict(model.named_parameters())
    for name in matching(globs, list(named), where="freeze"):
        named[name].requires_grad_(False)
