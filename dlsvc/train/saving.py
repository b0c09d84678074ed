"""From an engine to a checkpoint and back, and from a checkpoint to plain weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dlsvc.engine.base import Engine, Place
from dlsvc.errors import CheckpointError
from dlsvc.store import checkpoint
from dlsvc.store.checkpoint import BUFFER, EMA, UNTRAINED, WEIGHT, FileEntry, Manifest, Range, Reader


def save(engine: Engine, root: Path, *, step: int, about: Mapping[str, Any], keep: int) -> None:
    """Write a checkpoint from all ranks; rank 0 commits it and collects older ones. Every rank returns after the
    commit.
    """
    place, target = engine.place, checkpoint.directory(root, step)
    ranges = list(_ranges(engine))
    _refuse_non_finite(ranges)
    scalars = _scalars(engine)
    name, entry = checkpoint.write_shard(target, place.rank, ranges)
    reports = _gather((name, entry, scalars, {f"{item.kind}/{item.name}" for item in ranges}), place)
    if place.rank == 0:
        files: dict[str, FileEntry] = {found[0]: found[1] for found in reports}
        merged = {key: value for found in reports for key, value in found[2].items()}
        held = sorted(set().union(*(found[3] for found in reports)))
        manifest = Manifest(
            step=step, world_size=place.world_size, shapes=_shapes(engine, held), scalars=merged, files=files, **about
        )
        checkpoint.commit(target, manifest)
        checkpoint.collect(root, keep)
    _gather(None, place)


def _ranges(engine: Engine) -> Iterator[Range]:
    """What this rank holds; what is equal everywhere is written by rank 0."""
    for slot, optimizer, average in engine.slots():
        yield Range(WEIGHT, slot.name, slot.start, slot.view(slot.owner))
        if average is not None:
            yield Range(EMA, slot.name, slot.start, average)
        for kind, value in optimizer.state.get(slot.owner, {}).items():
            if isinstance(value, Tensor) and value.dim() > 0:
                yield Range(kind, slot.name, slot.start, slot.view(value))
    if engine.place.rank == 0:
        yield from checkpoint.iter_ranges(BUFFER, engine.buffers())
    untrained = engine.untrained()
    if engine.place.rank == 0:
        yield from checkpoint.iter_ranges(UNTRAINED, untrained)


def _scalars(engine: Engine) -> dict[str, float]:
    """What the optimizer keeps once a parameter, such as Adam's step count."""
    found = {}
    for slot, optimizer, _ in engine.slots():
        for kind, value in optimizer.state.get(slot.owner, {}).items():
            if isinstance(value, int | float) or (isinstance(value, Tensor) and value.dim() == 0):
                found[f"{kind}/{slot.name}"] = float(value)
    return found


def _shapes(engine: Engine, held: list[str]) -> dict[str, tuple[int, ...]]:
    """The whole tensors that the checkpoint holds, by `KIND/NAME`."""
    shapes = {**engine.shapes(), **{name: tuple(buffer.shape) for name, buffer in engine.buffers().items()}}
    return {key: shapes[key.partition("/")[2]] for key in held}


def _refuse_non_finite(ranges: list[Range]) -> None:
    for item in ranges:
        if item.data.is_floating_point() and not bool(torch.isfinite(item.data).all()):
            raise CheckpointError(
                f"{item.kind} of {item.name} is not finite: nothing was saved, the last checkpoint is untouched"
            )


def _gather(value: Any, place: Place) -> list[Any]:
    if place.world_size == 1:
        return [value]
    found: list[Any] = [None] * place.world_size
    dist.all_gather_object(found, value)
    return found


def load_weights(modules: Mapping[str, nn.Module], reader: Reader) -> None:
    """Set parameters and buffers from a checkpoint, before an engine wraps the modules."""
    tensors = {**reader.tensors(WEIGHT), **reader.tensors(UNTRAINED)}
    buffers = reader.tensors(BUFFER)
    for role, module in modules.items():
        here = {
            name.removeprefix(f"{role}."): value
            for name, value in {**tensors, **buffers}.items()
            if name.startswith(f"{role}.")
        }
        module.load_state_dict(here, strict=True)


def load_optimizers(engine: Engine, reader: Reader) -> None:
    """Set what optimizers and averages keep, whatever strategy and world size wrote it."""
    shapes, scalars = reader.manifest.shapes, reader.manifest.scalars
    kinds = sorted(reader.kinds() - {WEIGHT, EMA, BUFFER, UNTRAINED})
    scalar_kinds = sorted({key.partition("/")[0] for key in scalars})
    for slot, optimizer in engine.held():
        state = optimizer.state[slot.owner]
        for kind in (kind for kind in kinds if f"{kind}/{slot.name}" in shapes):
            if kind not in state:
                state[kind] = torch.zeros_like(slot.owner)
            slot.view(state[kind]).copy_(reader.range(kind, slot.name, slot.start, slot.count))
        for kind in (kind for kind in scalar_kinds if f"{kind}/{slot.name}" in scalars):
            state[kind] = torch.tensor(scalars[f"{kind}/{slot.name}"], dtype=torch.float32)
    for slot, _, average in engine.slots():
        if average is not None:
            average.copy_(reader.range(EMA, slot.name, slot.start, slot.count))


def whole_weights(
    reader: Reader, model: nn.Module, modules: Mapping[str, nn.Module], *, averaged: bool
) -> dict[str, Tensor]:
    """A checkpoint's weights under the model's own names; exponential averages where there are any and they are asked
    for. What companions hold is left out.
    """
    names = _model_names(model, modules)
    kinds = (WEIGHT, UNTRAINED, BUFFER, *((EMA,) if averaged else ()))
    held = [(kind, name) for kind in kinds for name in reader.names(kind) if name.partition(".")[0] in modules]
    return {names[name]: reader.tensor(kind, name) for kind, name in held}


def _model_names(model: nn.Module, modules: Mapping[str, nn.Module]) -> dict[str, str]:
    """`role.name` -> the name in the model's own state dict."""
    own = {id(value): name for name, value in [*model.named_parameters(), *model.named_buffers()]}
    return {
        f"{role}.{name}": own[id(value)]
        for role, module in modules.items()
        for name, value in [*module.named_parameters(), *module.named_buffers()]
    }


def parameter_names(model: nn.Module) -> set[str]:
    return {name for name, _ in model.named_parameters()}
