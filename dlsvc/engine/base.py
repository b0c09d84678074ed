"""The engine: parallelism from outside, one protocol for every strategy. `Engine` itself is the plain strategy and
the reference.

An engine wraps each phase's trainable module with its own optimizer. The loop calls, for every phase of a step and
every atom of this rank,

    with engine.forward(phase, step, atom):       # the atom's random numbers, its batch statistics, the precision
        losses, report = task.losses(engine.modules(phase), batch, phase)
    engine.backward(phase, loss, weight)          # weight: the atom's share of the step; 0 on a rank short of atoms
    engine.step(phase, step)                      # reduce, clip, update, average

Gradients are reduced after every atom and then added up: the order that sharded strategies can afford in memory, and
the only one that all of them share, which is why one spec gives one model under any strategy. State leaves an engine as
`Slot`s: flat ranges of named parameters with what the optimizer keeps for them. Checkpoints, exponential averages and
resharding know nothing else of a strategy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from dlsvc.augment import keys
from dlsvc.engine.exact import all_reduce, exact_norm, exact_sum
from dlsvc.engine.witness import Witness
from dlsvc.tasks.base import NO_COMPANIONS, Companion

# Step -> factor of the learning rate.
Schedule = Callable[[int], float]


@dataclass(frozen=True)
class Place:
    """Where this process stands."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = torch.device("cpu")


@dataclass(frozen=True)
class Phase:
    """What trains in one phase: a module by name, its optimizer, and how its steps are taken."""

    name: str
    module: str
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    max_grad_norm: float | None = None
    ema_decay: float | None = None


@dataclass(frozen=True)
class Slot:
    """`count` elements of parameter `name` from its flat element `start` on, held by this rank in `owner` (a
    parameter of the optimizer) at `offset`.
    """

    name: str
    shape: tuple[int, ...]
    start: int
    count: int
    owner: Tensor
    offset: int

    def view(self, tensor: Tensor) -> Tensor:
        """This slot's elements of a tensor laid out like the owner."""
        return local(tensor).detach().reshape(-1)[self.offset : self.offset + self.count]


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor that may be distributed."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


class Engine:
    """One process, no wrapping."""

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        phases: Sequence[Phase],
        *,
        seed: int,
        place: Place,
        precision: str = "fp32",
        exact: bool = False,
        num_atoms: int = 1,
        companions: Mapping[str, Companion] = NO_COMPANIONS,
    ) -> None:
        self.place = place
        self.seed = seed
        self.precision = precision
        self.exact = exact
        self.num_atoms = num_atoms
        self.companions = companions
        beside = {role: companion.module for role, companion in companions.items()}
        self._buffers, self._kept = _buffers_of(modules), _buffers_of(beside)
        modules = {**modules, **beside}
        self.plain = dict(modules)
        self.phases = {phase.name: phase for phase in phases}
        self._frozen = {
            parameter for module in modules.values() for parameter in module.parameters() if not parameter.requires_grad
        }
        self._names = {
            id(p): f"{role}.{name}" for role, module in modules.items() for name, p in module.named_parameters()
        }
        self._shapes = {name: tuple(p.shape) for role, module in modules.items() for name, p in _prefixed(role, module)}
        # What is averaged over atoms, and what only counts them.
        self._running = [buffer for buffer in self._buffers.values() if buffer.is_floating_point()]
        counters = [buffer for buffer in self._buffers.values() if not buffer.is_floating_point()]
        self._running_vector, self._counter_vector = _in_one_piece(self._running), _in_one_piece(counters)
        self._statistics: list[tuple[float, Tensor]] = []
        self._atom_gradients: list[Tensor] = []
        self._witness: Witness | None = None
        self.last_grad_norm: dict[str, float] = {}
        self.wrapped = {phase.module: self._wrap(phase) for phase in phases}
        self._slots = {phase.name: self._build_slots(phase) for phase in phases}
        self._ema = {
            phase.name: [slot.view(slot.owner).clone() for slot in self._slots[phase.name]]
            for phase in phases
            if phase.ema_decay is not None
        }

    # What a strategy decides.

    def _wrap(self, phase: Phase) -> nn.Module:
        return self.plain[phase.module]

    def _build_slots(self, phase: Phase) -> list[Slot]:
        """Each rank of a replicated strategy keeps an equal range of every parameter's flat elements."""
        rank, world = self.place.rank, self.place.world_size
        found = []
        for parameter in self._parameters(phase):
            start, stop = (parameter.numel() * turn // world for turn in (rank, rank + 1))
            found.append(
                Slot(self._names[id(parameter)], tuple(parameter.shape), start, stop - start, parameter, start)
            )
        return found

    def _reduce_round(self, phase: Phase) -> None:
        """Bring the gradients of one atom a rank together. Autograd already adds them up in a single process."""

    def _settle(self, phase: Phase) -> None:
        """Bring the step's total to where the optimizer reads it. It is there already in a single process."""

    def _gradient_pieces(self, phase: Phase) -> list[Tensor]:
        """Gradients whose elements, over ranks, are those of the whole model once."""
        return [slot.view(slot.owner.grad) for slot in self._slots[phase.name] if slot.owner.grad is not None]

    def _gradients(self, phase: Phase) -> list[Tensor]:
        """Every gradient this rank will apply."""
        return [local(p.grad) for p in self._parameters(phase) if p.grad is not None]

    def _update(self, phase: Phase) -> None:
        phase.optimizer.step()
        phase.optimizer.zero_grad(set_to_none=True)

    # What the loop calls.

    def modules(self, phase: str) -> Mapping[str, nn.Module]:
        """The modules that a task may call in a phase: the trained one wrapped, the others as the strategy needs
        them, companions too.
        """
        trained = self.phases[phase].module
        return {name: self.wrapped[name] if name == trained else self._untrained(name) for name in self.plain}

    def _untrained(self, name: str) -> nn.Module:
        return self.plain[name]

    def begin(self, phase: str, *, watched: bool = False) -> None:
        """Open a phase of a step: only its module collects gradients, and every atom starts from the same running
        statistics. A watched step compares what is applied with what the ranks computed.
        """
        trained = self.phases[phase].module
        for name, module in self.plain.items():
            for parameter in module.parameters():
                parameter.requires_grad_(name == trained and parameter not in self._frozen)
        self._first = self._running_vector.clone(), self._counter_vector.clone()
        self._statistics = []
        if watched and self.place.world_size > 1:
            self._witness = Witness(self.modules(phase).values(), self.place.device)

    @contextmanager
    def forward(self, phase: str, step: int, atom: int | None, weight: float) -> Iterator[None]:
        """One atom's forward pass: dropout is keyed by (seed, phase, step, atom), batch statistics are the atom's
        own.
        """
        torch.manual_seed(_atom_seed(self.seed, phase, step, atom))
        self._running_vector.copy_(self._first[0])
        self._counter_vector.copy_(self._first[1])
        with torch.autocast(self.place.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            yield
        if self._running and weight > 0:
            self._statistics.append((weight, self._running_vector.clone()))

    def backward(self, phase: str, loss: Tensor, weight: float) -> None:
        """Add one atom's gradient, `weight` times the loss's."""
        current = self.phases[phase]
        if self.exact:
            self._keep_for_exact_sum(current, loss, weight)
        else:
            # Every strategy averages over its ranks; a single process is one.
            self._backward(current, loss * (weight * self.place.world_size))
            self._reduce_round(current)
        if self._witness is not None:
            self._witness.end_atom()

    def _keep_for_exact_sum(self, phase: Phase, loss: Tensor, weight: float) -> None:
        if weight > 0:
            (loss * weight).backward()
            self._atom_gradients.append(
                torch.cat([p.grad.reshape(-1) for p in self._parameters(phase) if p.grad is not None])
            )
            phase.optimizer.zero_grad(set_to_none=True)

    def _backward(self, phase: Phase, loss: Tensor) -> None:
        loss.backward()

    def step(self, phase: str, step: int) -> None:
        """Update the phase's module from the gradients of all atoms."""
        current = self.phases[phase]
        if self.exact:
            self._reduce_exactly(current)
        else:
            self._settle(current)
        if self._witness is not None:
            self._witness.close()
            share = 1.0 if self.exact else 1 / self.place.world_size
            self._witness.compare(self._gradient_pieces(current), share=share, step=step + 1)
            self._witness = None
        factor = current.schedule(step)
        for group in current.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        if current.max_grad_norm is not None:
            self._clip(current, current.max_grad_norm)
        self._update(current)
        self._average_statistics()
        for companion in self.companions.values():
            if companion.follows == current.module:
                self._follow(companion, self.plain[current.module])
        if current.ema_decay is not None:
            for average, slot in zip(self._ema[phase], self._slots[phase], strict=True):
                average.lerp_(slot.view(slot.owner), 1 - current.ema_decay)

    @torch.no_grad()
    def _follow(self, companion: Companion, leader: nn.Module) -> None:
        """Element by element, each operation rounded by itself: the same bits however a strategy lays them out. What is
        frozen stays as it is.
        """
        for own, ahead in zip(companion.module.parameters(), leader.parameters(), strict=True):
            if ahead not in self._frozen:
                local(own).add_((local(ahead) - local(own)) * (1 - companion.decay))

    def _reduce_exactly(self, phase: Phase) -> None:
        parameters = [p for p in self._parameters(phase) if p.requires_grad]
        for parameter, gradient in zip(
            parameters, exact_sum(self._atom_gradients, like=parameters, num_terms=self.num_atoms), strict=True
        ):
            parameter.grad = gradient
        self._atom_gradients = []

    def _clip(self, phase: Phase, limit: float) -> None:
        """Clip by the global norm, summed so that every strategy finds the same bits."""
        count = sum(p for p in map(_numel, self._shapes.values()))
        norm = exact_norm(self._gradient_pieces(phase), num_elements=count, device=self.place.device)
        self.last_grad_norm[phase.name] = float(norm)
        factor = float(torch.clamp(limit / (norm + 1e-6), max=1.0))
        gradients = self._gradients(phase)
        if factor != 1.0 and gradients:
            torch._foreach_mul_(gradients, factor)

    def _average_statistics(self) -> None:
        """Running statistics become the mean over all atoms of what each would have made them (ghost batch norm,
        Hoffer et al. 2017).
        """
        if self._running:
            terms = [weight * found.double() for weight, found in self._statistics]
            means = exact_sum(terms, like=self._running, num_terms=self.num_atoms)
            torch._foreach_copy_(self._running, means)
        if len(self._counter_vector):
            all_reduce(self._counter_vector, dist.ReduceOp.MAX)

    def _parameters(self, phase: Phase) -> list[nn.Parameter]:
        return [p for p in self.plain[phase.module].parameters() if p not in self._frozen]

    # State.

    def slots(self) -> list[tuple[Slot, torch.optim.Optimizer, Tensor | None]]:
        """Every slot of this rank with its optimizer and its exponential average."""
        found = []
        for name, phase in self.phases.items():
            averages: Sequence[Tensor | None] = self._ema.get(name) or [None] * len(self._slots[name])
            found += [
                (slot, phase.optimizer, average) for slot, average in zip(self._slots[name], averages, strict=True)
            ]
        return found

    def held(self) -> list[tuple[Slot, torch.optim.Optimizer]]:
        """What this rank's optimizers need to be restored: everything they update, which a replicated strategy holds
        in full.
        """
        return [
            (Slot(self._names[id(p)], tuple(p.shape), 0, p.numel(), p, 0), phase.optimizer)
            for phase in self.phases.values()
            for p in self._parameters(phase)
        ]

    def buffers(self) -> dict[str, Tensor]:
        """Running statistics and what companions keep, equal on every rank."""
        return {**self._buffers, **self._kept}

    def untrained(self) -> dict[str, Tensor]:
        """Parameters that no optimizer holds, equal on every rank."""
        return {
            self._names[id(p)]: p.detach()
            for module in self.plain.values()
            for p in module.parameters()
            if p in self._frozen
        }

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self._shapes

    def checksum(self) -> Tensor:
        """A 64-bit sum over the bits of everything that must be equal on all ranks, (1,) int64."""
        return _bits_sum([*self._replicated(), *self.buffers().values()], self.place.device)

    def _replicated(self) -> list[Tensor]:
        return [p.detach() for module in self.plain.values() for p in module.parameters()]


class ShardedEngine(Engine):
    """What strategies that split a module over ranks share: it is only called wrapped, and restored piece by piece."""

    def held(self) -> list[tuple[Slot, torch.optim.Optimizer]]:
        return [(slot, optimizer) for slot, optimizer, _ in self.slots()]

    def _untrained(self, name: str) -> nn.Module:
        return self.wrapped.get(name, self.plain[name])


def _prefixed(role: str, module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((f"{role}.{name}", parameter) for name, parameter in module.named_parameters())


def _buffers_of(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Buffers that a state dict keeps; the others are constants."""
    kept = {role: module.state_dict().keys() for role, module in modules.items()}
    return {
        f"{role}.{name}": buffer
        for role, module in modules.items()
        for name, buffer in module.named_buffers()
        if name in kept[role]
    }


def _in_one_piece(buffers: Sequence[Tensor]) -> Tensor:
    """A vector that the buffers, all of one type, are views of from here on: what is done to all is done to it."""
    if not buffers:
        return torch.zeros(0)
    vector = torch.cat([buffer.reshape(-1) for buffer in buffers])
    parts = vector.split([buffer.numel() for buffer in buffers])
    for buffer, part in zip(buffers, parts, strict=True):
        assert buffer.dtype == vector.dtype, f"buffers of {buffer.dtype} and {vector.dtype} can't lie in one vector"
        buffer.data = part.view_as(buffer)
    return vector


def _numel(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


def _atom_seed(seed: int, phase: str, step: int, atom: int | None) -> int:
    word = keys.sample_keys(seed, np.asarray([step]), np.asarray([-1 if atom is None else atom]))
    return int(keys.derive(word, f"dropout/{phase}")[0] >> np.uint64(1))


def _bits_sum(tensors: Sequence[Tensor], device: torch.device) -> Tensor:
    total = torch.zeros(1, dtype=torch.int64, device=device)
    for place, tensor in enumerate(tensors):
        words = tensor.contiguous().view(torch.int32) if tensor.element_size() == 4 else tensor.to(torch.int64)
        total += (place + 1) * words.to(torch.int64).sum()
    return total
