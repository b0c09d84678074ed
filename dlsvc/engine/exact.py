"""Order-free sums: numbers as 64-bit fixed point on a scale that all ranks agree on, added as integers.

A maximum does not depend on the order in which it is taken, nor does a sum of integers, so the result has the same bits
for any number of ranks and any assignment of atoms to them. `reference`: the mechanism is that of reproducible
summation by pre-rounding (Demmel and Nguyen, 2013), with one bin of 62 bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

# Bits for the largest magnitude's mantissa and the carries of a sum; two are left so that int64 never overflows.
_BITS = 62
# Elements that are worked on at once: as many as stay in a core's cache.
_CACHED = 1 << 17


def all_reduce(tensor: Tensor, op: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> Tensor:
    """In place over all ranks; nothing to do in a single process."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(tensor, op)
    return tensor


def exact_sum(terms: Sequence[Tensor], *, like: Sequence[Tensor], num_terms: int) -> list[Tensor]:
    """Sum vectors over this rank's terms and over ranks.

    `terms` are this rank's flat float vectors, each the concatenation of tensors shaped as in `like`; `num_terms`
    counts them over all ranks. Each tensor gets its own scale. Returns tensors shaped as `like`, in float32; a
    non-finite term makes its tensor NaN everywhere.
    """
    sizes = [tensor.numel() for tensor in like]
    tops = _tops(terms, sizes, like[0].device)
    all_reduce(tops, dist.ReduceOp.MAX)
    exponents = torch.frexp(tops).exponent.to(torch.float64)
    shift = _BITS - 1 - math.ceil(math.log2(max(num_terms, 1))) - exponents
    # A tensor of zeros has no exponent worth scaling by; any scale will do.
    scales = torch.where(tops > 0, torch.exp2(shift.clamp(-1000, 1000)), 1.0)
    each = scales.repeat_interleave(torch.tensor(sizes, device=scales.device))
    total = torch.zeros(sum(sizes), dtype=torch.int64, device=tops.device)
    for term in terms:
        for part, values, scale in zip(*(whole.split(_CACHED) for whole in (total, term, each)), strict=True):
            part += (values.double() * scale).round_().to(torch.int64)
    all_reduce(total)
    values = (total.double() / each).float()
    values = torch.where(
        torch.isfinite(tops).repeat_interleave(torch.tensor(sizes, device=tops.device)), values, torch.nan
    )
    return [part.view_as(tensor) for part, tensor in zip(values.split(sizes), like, strict=True)]


def _tops(terms: Sequence[Tensor], sizes: Sequence[int], device: torch.device) -> Tensor:
    """The largest magnitude in each tensor over the terms, (len(sizes),) float64; infinity where a term is not
    finite.
    """
    tops = torch.zeros(len(sizes), dtype=torch.float64, device=device)
    for term in terms:
        tops = torch.maximum(tops, _magnitudes(term.split(list(sizes))))
    return tops


def _magnitudes(parts: Sequence[Tensor]) -> Tensor:
    """The largest magnitude in each part, (len(parts),) float64; infinity where one is not finite, 0 where it is
    empty.
    """
    full = [place for place, part in enumerate(parts) if part.numel()]
    found = torch.zeros(len(parts), dtype=torch.float64, device=parts[0].device)
    if full:
        # The infinity norm, of which torch takes twenty times as long on a CPU.
        ends = torch.stack([end for place in full for end in torch.aminmax(parts[place])]).double()
        found[full] = ends.abs().view(-1, 2).amax(1)
    return torch.where(torch.isfinite(found), found, torch.inf)


def exact_norm(pieces: Sequence[Tensor], *, num_elements: int, device: torch.device) -> Tensor:
    """The Euclidean norm of a vector whose elements are spread over ranks in any way, once each: float64, 0-d, the
    same bits for any sharding.
    """
    pieces = [piece.reshape(-1) for piece in pieces if piece.numel()]
    top = _magnitudes([torch.zeros(1, device=device), *pieces]).max()
    all_reduce(top, dist.ReduceOp.MAX)
    if not torch.isfinite(top) or top == 0:
        return top
    exponent = 2 * int(torch.frexp(top).exponent)
    scale = 2.0 ** min(1000, _BITS - 1 - math.ceil(math.log2(max(num_elements, 1))) - exponent)
    total = torch.zeros((), dtype=torch.int64, device=device)
    for part in _cached(pieces):
        total += part.double().square_().mul_(scale).round_().to(torch.int64).sum()
    all_reduce(total)
    return (total.double() / scale).sqrt()


def _cached(pieces: Sequence[Tensor]) -> Iterator[Tensor]:
    """The pieces end to end, cut to what a cache holds: small ones by themselves cost a call each, and large ones a way
    through memory for each operation.
    """
    waiting, held = list[Tensor](), 0
    for part in (part for piece in pieces for part in piece.split(_CACHED)):
        if waiting and held + part.numel() > _CACHED:
            yield torch.cat(waiting)
            waiting, held = [], 0
        waiting.append(part)
        held += part.numel()
    if waiting:
        yield torch.cat(waiting)


FIXED_POINT = 2.0**32


def to_fixed(value: Tensor) -> Tensor:
    """A logged scalar as 32.32 fixed point, so that logs have the same digits for any number of ranks."""
    return (value.detach().double() * FIXED_POINT).round().to(torch.int64)
