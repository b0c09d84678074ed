"""Sounds a second on one thread, ours against audiomentations, in one run: each operation always, with equal ranges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dlsvc.augment import keys as random
from dlsvc.augment.audio import Noise, PitchShift, TimeShift, TimeStretch, Volume
from dlsvc.augment.pipeline import Pipeline
from tests.bench.test_augment_image import per_second

pytestmark = pytest.mark.bench
RATE, SECONDS, COUNT = 16_000, 1, 64

# Ours, and theirs by name and arguments; their own defaults stretch by another method, which has its row too.
PAIRS: dict[str, tuple[tuple[Any, ...], tuple[tuple[str, dict[str, Any]], ...]]] = {
    "noise": ((Noise(p=1),), (("AddGaussianSNR", {}),)),
    "time-shift": ((TimeShift(p=1),), (("Shift", {"fade_duration": 0.0}),)),
    "volume": ((Volume(p=1),), (("Gain", {}),)),
    "time-stretch, phase vocoders": (
        (TimeStretch(p=1),),
        (("TimeStretch", {"method": "librosa_phase_vocoder"}),),
    ),
    "time-stretch, their default": ((TimeStretch(p=1),), (("TimeStretch", {}),)),
    "pitch-shift, phase vocoders": ((PitchShift(p=1),), (("PitchShift", {"method": "librosa_phase_vocoder"}),)),
    "pitch-shift, their default": ((PitchShift(p=1),), (("PitchShift", {}),)),
    "noise, time-shift, volume": (
        (Noise(p=1), TimeShift(p=1), Volume(p=1)),
        (("AddGaussianSNR", {}), ("Shift", {"fade_duration": 0.0}), ("Gain", {})),
    ),
    "all five, their defaults": (
        (TimeStretch(p=1), PitchShift(p=1), Noise(p=1), TimeShift(p=1), Volume(p=1)),
        (("TimeStretch", {}), ("PitchShift", {}), ("AddGaussianSNR", {}), ("Shift", {}), ("Gain", {})),
    ),
}


def ours(sounds: np.ndarray, steps: tuple[Any, ...]) -> Callable[[], Any]:
    pipeline, ids = Pipeline(steps), np.arange(len(sounds), dtype=np.int64)
    words = random.sample_keys(0, np.zeros_like(ids), ids)
    return lambda: pipeline.apply({"audio": sounds}, words)


def audiomentations_chain(sounds: np.ndarray, steps: tuple[tuple[str, dict[str, Any]], ...]) -> Callable[[], Any]:
    peer = pytest.importorskip("audiomentations", reason="a peer, and no dependency of ours")
    chain = peer.Compose([getattr(peer, name)(**arguments, p=1.0) for name, arguments in steps])
    return lambda: np.stack([chain(samples=sound, sample_rate=RATE) for sound in sounds])


# Theirs converts types in ways that numpy is about to end.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PAIRS)
def test_sounds_a_second(name: str) -> None:
    mine, theirs = PAIRS[name]
    sounds = np.random.default_rng(0).normal(0, 0.1, (COUNT, RATE * SECONDS)).astype(np.float32)
    fast, slow = per_second(ours(sounds, mine), COUNT), per_second(audiomentations_chain(sounds, theirs), COUNT)
    print(f"\n{name}: {fast:,.0f} sounds of {SECONDS} s a second ours, {slow:,.0f} theirs, ratio {fast / slow:.1f}")
