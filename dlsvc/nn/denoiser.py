"""The U-Net of diffusion models: residual blocks told the time, on small grids attention to the grid itself and to a
context, such as a text.

B batch, C channels, H height, W width, E width of the time's embedding, S length and D width of the context.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.errors import UsageError
from dlsvc.nn.attention import MultiHeadAttention
from dlsvc.nn.fanned import fanned


def time_features(step: Tensor, dim: int) -> Tensor:
    """Cosines and sines of the time at frequencies from 1 down to 1/10,000: (B,) -> (B, dim), as the positions of
    Vaswani et al. 2017, cosines first. An odd width ends with a zero.
    """
    half = dim // 2
    frequency = torch.exp(-math.log(10000) * torch.arange(half, device=step.device) / half)
    angle = step.float()[:, None] * frequency
    return F.pad(torch.cat([angle.cos(), angle.sin()], dim=1), (0, dim % 2))


def _silu(own: Tensor) -> Tensor:
    """SiLU of what nobody else reads: where no gradient is wanted, in its own memory."""
    return F.silu(own, inplace=not torch.is_grad_enabled())


def _added(own: Tensor, other: Tensor) -> Tensor:
    """The sum, likewise in memory of what nobody else reads."""
    return own + other if torch.is_grad_enabled() or own.dtype != other.dtype else own.add_(other)


def _laid_out(grid: Tensor) -> Tensor:
    """Channels last, as convolutions are fastest, where no gradient is wanted: group norms go back slower that way, in
    bf16 by more than convolutions gain.
    """
    return grid if torch.is_grad_enabled() else grid.contiguous(memory_format=torch.channels_last)


def _fanned(context: Tensor | None) -> Tensor | None:
    return None if context is None else fanned(context)


class ResidualBlock(nn.Module):
    """Two convolutions after group norms, the time's embedding added between them (Ho et al. 2020, appendix B); without
    a width of that embedding there is no time.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embed_dim: int | None,
        groups: int,
        dropout: float = 0.0,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels, eps=eps)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time = None if embed_dim is None else nn.Linear(embed_dim, out_channels)
        self.norm2 = nn.GroupNorm(groups, out_channels, eps=eps)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        x = fanned(x)
        hidden = self.conv1(_silu(self.norm1(x)))
        if self.time is not None and time is not None:
            hidden = _added(hidden, self.time(F.silu(time))[:, :, None, None])
        hidden = self.conv2(self.dropout(_silu(self.norm2(hidden))))
        return _added(hidden, self.shortcut(x))


class GridAttention(nn.Module):
    """Every place of a grid attends to every other."""

    def __init__(self, channels: int, head_dim: int, groups: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=eps)
        self.attention = MultiHeadAttention(d_model=channels, num_heads=max(1, channels // head_dim))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        x = fanned(x)
        places = _as_places(self.norm(x))
        found: Tensor = x + _as_grid(self.attention(places), x)
        return found


class GatedFeedForward(nn.Module):
    """GEGLU (Shazeer 2020): one half of a linear layer, times the GELU of the other."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.enter = nn.Linear(d_model, 8 * d_model)
        self.leave = nn.Linear(4 * d_model, d_model)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.enter(x).chunk(2, dim=-1)
        found: Tensor = self.leave(value * F.gelu(gate))
        return found


class ContextAttention(nn.Module):
    """A transformer block on the places of a grid: attention to the grid, to the context (B, S, D), and a feed-forward
    layer, each after a norm and added (Rombach et al. 2022, appendix E.2.1).
    """

    def __init__(self, channels: int, head_dim: int, groups: int, context_dim: int) -> None:
        super().__init__()
        heads = max(1, channels // head_dim)
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.enter = nn.Conv2d(channels, channels, 1)
        self.norm1 = nn.LayerNorm(channels)
        self.own = MultiHeadAttention(d_model=channels, num_heads=heads, bias=False)
        self.norm2 = nn.LayerNorm(channels)
        self.cross = MultiHeadAttention(d_model=channels, num_heads=heads, context_dim=context_dim, bias=False)
        self.norm3 = nn.LayerNorm(channels)
        self.mlp = GatedFeedForward(channels)
        self.leave = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        x, context = fanned(x), _fanned(context)
        places = _as_places(self.enter(self.norm(x)))
        places = places + self.own(self.norm1(places))
        places = places + self.cross(self.norm2(places), context)
        places = places + self.mlp(self.norm3(places))
        found: Tensor = x + self.leave(_as_grid(places, x))
        return found


class NoAttention(nn.Module):
    """The grid as it is."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return x


def _as_places(grid: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, HW, C)"""
    return grid.flatten(2).transpose(1, 2)


def _as_grid(places: Tensor, like: Tensor) -> Tensor:
    """(B, HW, C) -> (B, C, H, W)"""
    return places.transpose(1, 2).reshape(like.shape)


def _attention(channels: int, head_dim: int | None, groups: int, context_dim: int | None) -> nn.Module:
    if head_dim is None:
        return NoAttention()
    if context_dim is None:
        return GridAttention(channels, head_dim, groups)
    return ContextAttention(channels, head_dim, groups, context_dim)


class Stage(nn.Module):
    """The blocks of one resolution, each with attention or without."""

    def __init__(
        self,
        channels: list[tuple[int, int]],
        embed_dim: int,
        head_dim: int | None,
        groups: int,
        dropout: float,
        context_dim: int | None,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(*pair, embed_dim, groups, dropout) for pair in channels)
        self.attentions = nn.ModuleList(_attention(pair[1], head_dim, groups, context_dim) for pair in channels)

    def forward(
        self, x: Tensor, time: Tensor, skips: list[Tensor], context: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """The result, and that of each block. `skips`, one a block or none, are read beside the blocks' input."""
        found = []
        for place, (block, attention) in enumerate(zip(self.blocks, self.attentions, strict=True)):
            x = torch.cat([x, skips[place]], dim=1) if skips else x
            x = attention(block(x, time), context)
            found.append(x)
        return x, found


class Middle(nn.Module):
    """Block, attention, block."""

    def __init__(
        self,
        channels: int,
        embed_dim: int,
        head_dim: int,
        groups: int,
        dropout: float,
        context_dim: int | None,
    ) -> None:
        super().__init__()
        self.first = ResidualBlock(channels, channels, embed_dim, groups, dropout)
        self.attention = _attention(channels, head_dim, groups, context_dim)
        self.last = ResidualBlock(channels, channels, embed_dim, groups, dropout)

    def forward(self, x: Tensor, time: Tensor, context: Tensor | None = None) -> Tensor:
        found: Tensor = self.last(self.attention(self.first(x, time), context), time)
        return found


class Upsample(nn.Module):
    """Twice the side by repeating, then a convolution: without the checks that strided transposes leave."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return found


class DenoisingUNet(nn.Module):
    """(B, in_channels, H, W) and the time's embedding (B, E) -> (B, out_channels, H, W). Sides are a multiple of
    2^(stages - 1). `attention` says for each stage whether its blocks attend: to the grid, and with a `context_dim` to
    a context (B, S, context_dim) too.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        widths: tuple[int, ...],
        attention: tuple[bool, ...],
        blocks: int,
        embed_dim: int,
        head_dim: int,
        groups: int,
        dropout: float,
        context_dim: int | None = None,
    ) -> None:
        super().__init__()
        if len(attention) != len(widths):
            raise UsageError(f"attention says yes or no for each of {len(widths)} widths, not {len(attention)}")
        if any(width % groups for width in widths):
            raise UsageError(f"every width must be a multiple of groups, {groups}: {widths}")
        shared = {"embed_dim": embed_dim, "groups": groups, "dropout": dropout, "context_dim": context_dim}
        heads = [head_dim if attends else None for attends in attention]
        self.enter = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        skips, before = [widths[0]], widths[0]
        for place, width in enumerate(widths):
            pairs = [(before, width), *[(width, width)] * (blocks - 1)]
            self.down.append(Stage(pairs, head_dim=heads[place], **shared))  # type: ignore[arg-type]
            skips += [width] * blocks
            if place < len(widths) - 1:
                self.shrink.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
                skips.append(width)
            before = width
        # A block more than on the way down: it takes what came into the stage.
        self.num_taken = blocks + 1
        self.middle = Middle(before, head_dim=head_dim, **shared)  # type: ignore[arg-type]
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for place, width in reversed(list(enumerate(widths))):
            pairs = [((before if n == 0 else width) + skips.pop(), width) for n in range(self.num_taken)]
            self.up.append(Stage(pairs, head_dim=heads[place], **shared))  # type: ignore[arg-type]
            if place:
                self.grow.append(Upsample(width))
            before = width
        self.norm = nn.GroupNorm(groups, before, eps=1e-5)
        self.leave = nn.Conv2d(before, out_channels, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor, context: Tensor | None = None) -> Tensor:
        x = _laid_out(self.enter(x))
        skips = [x]
        for place, stage in enumerate(self.down):
            x, found = stage(x, fanned(time), [], _fanned(context))
            skips += found
            if place < len(self.shrink):
                x = self.shrink[place](x)
                skips.append(x)
        x = self.middle(x, fanned(time), _fanned(context))
        for place, stage in enumerate(self.up):
            # Wrapped modules get copies of lists, so a stage can't take them off itself.
            x, _ = stage(x, fanned(time), [skips.pop() for _ in range(self.num_taken)], _fanned(context))
            if place < len(self.grow):
                x = self.grow[place](x)
        left: Tensor = self.leave(_silu(self.norm(x)))
        return left
