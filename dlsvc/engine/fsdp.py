"""Fully sharded data parallel (FSDP2, `fully_shard`): parameters, gradients and optimizer state are split over ranks
along their first dimension.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from dlsvc.engine.base import Phase, ShardedEngine, Slot, local
from dlsvc.nn.grounded import SharedStack
from dlsvc.tasks.base import Companion


class FSDPEngine(ShardedEngine):
    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        # What no phase trains is split just the same: a frozen tower is often the larger part.
        for name, module in self.plain.items():
            if name not in self.wrapped and any(True for _ in module.parameters()):
                self._shard(module)

    def _wrap(self, phase: Phase) -> nn.Module:
        swap = self._shard(self.plain[phase.module])
        for group in phase.optimizer.param_groups:
            group["params"] = [swap[id(parameter)] for parameter in group["params"]]
        return self.plain[phase.module]

    def _shard(self, module: nn.Module) -> dict[int, nn.Parameter]:
        """Split a module in place. Its parameters are new ones then, by the ids of the old; names and the frozen set
        follow.
        """
        mesh = self._mesh()
        before = dict(module.named_parameters())
        # Blocks of a stack are gathered one at a time, and inner ones before those around them, as fully_shard asks;
        # the root takes what is left.
        stacks = [
            part for part in module.modules() if isinstance(part, nn.ModuleList) and not isinstance(part, SharedStack)
        ]
        for block in [child for stack in reversed(stacks) for child in stack]:
            if any(True for _ in block.parameters()):
                fully_shard(block, mesh=mesh)
        fully_shard(module, mesh=mesh)
        after = dict(module.named_parameters())
        for name, old in before.items():
            self._names[id(after[name])] = self._names[id(old)]
            if old in self._frozen:
                # Only the new one: the old would stay whole in memory.
                self._frozen.remove(old)
                self._frozen.add(after[name])
        return {id(old): after[name] for name, old in before.items()}

    def _mesh(self) -> DeviceMesh:
        return init_device_mesh(self.place.device.type, (self.place.world_size,))

    def _build_slots(self, phase: Phase) -> list[Slot]:
        found = []
        for parameter in self._parameters(phase):
            shape = tuple(parameter.shape)
            rows = -(-shape[0] // self.place.world_size) if shape else 1
            start = min(rows * self.place.rank, shape[0] if shape else 0) * torch.Size(shape[1:]).numel()
            found.append(Slot(self._names[id(parameter)], shape, start, local(parameter).numel(), parameter, 0))
        return found

    def begin(self, phase: str, *, watched: bool = False) -> None:
        """A root that ran without gradients stays gathered, and gathered copies keep the flag of their first
        gathering: shard again, and let them follow.
        """
        parts = [part for module in self.plain.values() for part in _reshard(module)]
        super().begin(phase, watched=watched)
        for part in parts:
            for parameter in _gathered(part):
                parameter._unsharded_param.requires_grad_(parameter.sharded_param.requires_grad)

    def _follow(self, companion: Companion, leader: nn.Module) -> None:
        """Both are split alike, so each rank moves its own part."""
        _reshard(companion.module)
        _reshard(leader)
        super()._follow(companion, leader)

    def _replicated(self) -> list[Tensor]:
        return []

    def untrained(self) -> dict[str, Tensor]:
        """Split again first: a gathered parameter is another one than the shard that is known to be frozen."""
        for module in self.plain.values():
            _reshard(module)
        return {
            name: value.full_tensor() if hasattr(value, "full_tensor") else value
            for name, value in super().untrained().items()
        }


def _reshard(module: nn.Module) -> list[FSDPModule]:
    """The parts of a module that are split by themselves, each with its own shard in place."""
    parts: list[FSDPModule] = [part for part in module.modules() if isinstance(part, FSDPModule)]
    for part in parts:
        part.reshard()
    return parts


def _gathered(part: FSDPModule) -> list[Any]:
    """FSDP's own records of the parameters that a module has gathered before."""
    group = part._get_fsdp_state()._fsdp_param_group
    return [parameter for parameter in group.fsdp_params if hasattr(parameter, "_unsharded_param")] if group else []
