"""One phase of one step: from a rank's atoms to gradients, for tasks whose samples stand alone and for those that
couple them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from dlsvc.engine.base import Engine, Place
from dlsvc.tasks.base import Batch, Task
from dlsvc.train.meter import Meter


@dataclass(frozen=True)
class Atom:
    """One atom as this rank computes it. `index` is None on a rank short of atoms, which then runs with weight 0."""

    index: int | None
    weight: float
    batch: Batch


def run_phase(
    engine: Engine, task: Task, atoms: Sequence[Atom], *, phase: str, step: int, meter: Meter, watched: bool = False
) -> None:
    """Collect the phase's gradient over this rank's atoms."""
    engine.begin(phase, watched=watched)
    if task.couples_samples:
        return _coupled(engine, task, atoms, phase, step, meter)
    for atom in atoms:
        with engine.forward(phase, step, atom.index, atom.weight):
            losses, report = task.losses(engine.modules(phase), atom.batch, phase)
        engine.backward(phase, total(losses), atom.weight)
        meter.add(losses, report, atom.weight)
    return None


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def _coupled(engine: Engine, task: Task, atoms: Sequence[Atom], phase: str, step: int, meter: Meter) -> None:
    """A loss over the whole global batch, with the memory of one atom: features of all atoms first, then each atom is
    replayed against the gradient of its features (GradCache, Gao et al. 2021). With one atom a rank its graph is kept,
    and it is the plain gather.
    """
    modules, replay = engine.modules(phase), len(atoms) > 1
    own: list[dict[str, Tensor]] = []
    apart: list[dict[str, Tensor]] = []
    for atom in atoms:
        with torch.no_grad(), engine.forward(phase, step, atom.index, 0.0):
            apart.append(task.references(modules, atom.batch))
        with (
            torch.set_grad_enabled(not replay),
            engine.forward(phase, step, atom.index, 0.0 if replay else atom.weight),
        ):
            own.append(task.features(modules, atom.batch))
    whole = {name: value.requires_grad_() for name, value in gather(own, engine.place, engine.num_atoms).items()}
    references = gather(apart, engine.place, engine.num_atoms)
    losses, report = task.coupled_losses({**whole, **references, **task.memory(modules)})
    found = torch.autograd.grad(total(losses), list(whole.values()), allow_unused=True)
    # What the loss only looks at, such as labels, has no gradient.
    gradients = {name: gradient for name, gradient in zip(whole, found, strict=True) if gradient is not None}
    meter.add(losses, report, 1.0 if engine.place.rank == 0 else 0.0)
    for place, atom in enumerate(atoms):
        features = own[place]
        if replay:
            with engine.forward(phase, step, atom.index, atom.weight):
                features = task.features(modules, atom.batch)
        engine.backward(phase, _surrogate(features, gradients, atom), 1.0 if atom.index is not None else 0.0)
    task.remember(modules, references)


def _surrogate(features: dict[str, Tensor], gradients: dict[str, Tensor], atom: Atom) -> Tensor:
    """A scalar whose gradient in the parameters is this atom's part of the loss's; shared scalars are split by the
    atoms' shares.
    """
    parts = []
    for name, gradient in gradients.items():
        value = features[name]
        if value.dim() == 0:
            parts.append(value * gradient * atom.weight)
        else:
            first = (atom.index or 0) * len(value)
            parts.append((value * gradient[first : first + len(value)]).sum())
    return torch.stack(parts).sum()


def gather(own: Sequence[dict[str, Tensor]], place: Place, num_atoms: int) -> dict[str, Tensor]:
    """The features of all atoms in the order of the plan, as leaves: (N, D) each; shared scalars as they are."""
    found = {}
    for name, first in own[0].items():
        if first.dim() == 0:
            found[name] = first.detach().float().clone()
            continue
        mine = torch.stack([features[name].detach().float() for features in own]).contiguous()
        everyone = [torch.empty_like(mine) for _ in range(place.world_size)]
        if place.world_size > 1:
            dist.all_gather(everyone, mine)
        else:
            everyone = [mine]
        # Atom a is round a // world_size of rank a % world_size.
        atoms = torch.stack(everyone, dim=1).flatten(0, 1)[:num_atoms]
        found[name] = atoms.flatten(0, 1)
    return found
