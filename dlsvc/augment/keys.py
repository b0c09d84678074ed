"""Randomness that belongs to a sample: counter-based draws on a 64-bit key, vectorised, with no state.

A draw depends on (seed, epoch, sample id, stream) and on nothing else, so it is the same for any worker count, batch
split, feed or restart. The mixer is the finaliser of SplitMix64 (Steele, Lea and Flood, 2014): a bijection of 64-bit
words whose outputs on a counter pass the usual statistical batteries.

Shapes: keys are uint64 arrays (B,); a draw of shape S gives (B, *S).
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MUL1 = np.uint64(0xBF58476D1CE4E5B9)
_MUL2 = np.uint64(0x94D049BB133111EB)


def mix(words: Keys) -> Keys:
    """SplitMix64's finaliser on each word."""
    words = (words ^ (words >> np.uint64(30))) * _MUL1
    words = (words ^ (words >> np.uint64(27))) * _MUL2
    return words ^ (words >> np.uint64(31))


def stream_word(stream: str) -> np.uint64:
    """A name as a 64-bit word, equal on every machine (never `hash()`)."""
    return np.uint64(int.from_bytes(hashlib.blake2b(stream.encode(), digest_size=8).digest(), "little"))


def sample_keys(seed: int, epochs: NDArray[np.int64], ids: NDArray[np.int64]) -> Keys:
    """The key of each sample in its epoch: (B,) epochs and (B,) ids -> (B,) uint64."""
    base = mix(np.asarray([seed], np.uint64) + _GOLDEN)
    words = mix(base + mix(epochs.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
    return mix(words + mix(ids.astype(np.uint64) + np.uint64(1)) * _GOLDEN)


def derive(keys: Keys, stream: str) -> Keys:
    """Keys of an independent stream of the same samples."""
    return mix(keys ^ stream_word(stream))


def bits(keys: Keys, shape: tuple[int, ...]) -> Keys:
    """Independent 64-bit words, (B, *shape)."""
    counters = np.arange(1, math.prod(shape) + 1, dtype=np.uint64) * _GOLDEN
    return mix(keys[:, None] + counters[None, :]).reshape(len(keys), *shape)


def uniform(keys: Keys, shape: tuple[int, ...] = ()) -> NDArray[np.float64]:
    """Uniform in [0, 1), 53 bits, (B, *shape)."""
    return (bits(keys, shape) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def integers(keys: Keys, low: int, high: int, shape: tuple[int, ...] = ()) -> NDArray[np.int64]:
    """Uniform integers in [low, high], both included, (B, *shape)."""
    return low + (uniform(keys, shape) * (high - low + 1)).astype(np.int64)


def normal(keys: Keys, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Standard normal by the Box-Muller transform (1958), float32, (B, *shape)."""
    count = math.prod(shape)
    half = (count + 1) // 2
    pairs = uniform(keys, (2, half))
    radius = np.sqrt(-2.0 * np.log1p(-pairs[:, 0]))
    angle = 2.0 * np.pi * pairs[:, 1]
    values = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)[:, :count]
    return values.astype(np.float32).reshape(len(keys), *shape)
