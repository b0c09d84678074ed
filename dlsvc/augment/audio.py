"""Augmentations of audio: (B, T) float32 in [-1, 1] in and out, a batch at once, each sample's draws from its own key.

B samples, T samples of sound, F frames, K bins. Results are cut or padded with silence to T, and clipped to [-1, 1]. A
sample has equal bits alone and in any batch: nothing sums across samples, and every transform takes the same path.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from dlsvc.augment import keys as random
from dlsvc.augment.ranges import between, check_probability, check_range, chosen
from dlsvc.augment.registry import register_augmentation
from dlsvc.augment.vocoder import resampled, stretched
from dlsvc.errors import DataError

Audio = NDArray[np.float32]

# Sound samples that are worked on at once, so that what is in hand stays in the cache.
_CHUNK = 1 << 18


@register_augmentation("audio-noise", modality="audio")
@dataclass(frozen=True)
class Noise:
    """Adds white Gaussian noise, `min_db` to `max_db` decibels below the sample's own power."""

    min_db: float = 5.0
    max_db: float = 40.0
    p: float = 0.5

    def __post_init__(self) -> None:
        check_range("audio-noise", "db", self.min_db, self.max_db, -60, 120)
        check_probability("audio-noise", self.p)

    def apply_audio(self, audio: Audio, keys: random.Keys) -> Audio:
        """(B, T) float32 -> the same shape: noise's RMS is the sample's RMS / 10^(decibels / 20)."""
        return _on_chosen(audio, keys, "audio-noise", self.p, self._add)

    def _add(self, audio: Audio, keys: random.Keys) -> Audio:
        ratio = between(keys, "audio-noise/db", self.min_db, self.max_db)
        level = np.sqrt(np.square(audio).mean(axis=1)) * (10.0 ** (-ratio / 20)).astype(np.float32)
        noise = _white_noise(random.derive(keys, "audio-noise/noise"), audio.shape[1])
        noise *= level[:, None]
        noise += audio
        return np.clip(noise, -1, 1, out=noise)


@register_augmentation("time-stretch", modality="audio")
@dataclass(frozen=True)
class TimeStretch:
    """Plays `min_rate` to `max_rate` times as fast at the same pitch, by a phase vocoder."""

    min_rate: float = 0.8
    max_rate: float = 1.25
    p: float = 0.5

    def __post_init__(self) -> None:
        check_range("time-stretch", "rate", self.min_rate, self.max_rate, 0.1, 10)
        check_probability("time-stretch", self.p)

    def apply_audio(self, audio: Audio, keys: random.Keys) -> Audio:
        """(B, T) float32 -> the same shape. Reference: librosa.effects.time_stretch, cut or padded to T."""
        return _on_chosen(audio, keys, "time-stretch", self.p, self._stretch)

    def _stretch(self, audio: Audio, keys: random.Keys) -> Audio:
        rates = between(keys, "time-stretch/rate", self.min_rate, self.max_rate)
        found = stretched(audio, rates, audio.shape[1])
        return np.clip(found, -1, 1, out=found)


@register_augmentation("pitch-shift", modality="audio")
@dataclass(frozen=True)
class PitchShift:
    """Moves the pitch by `min_semitones` to `max_semitones` at the same speed: stretched, then resampled."""

    min_semitones: float = -4.0
    max_semitones: float = 4.0
    p: float = 0.5

    def __post_init__(self) -> None:
        check_range("pitch-shift", "semitones", self.min_semitones, self.max_semitones, -24, 24)
        check_probability("pitch-shift", self.p)

    def apply_audio(self, audio: Audio, keys: random.Keys) -> Audio:
        """(B, T) float32 -> the same shape. Reference: librosa.effects.pitch_shift with res_type="scipy"."""
        return _on_chosen(audio, keys, "pitch-shift", self.p, self._shift)

    def _shift(self, audio: Audio, keys: random.Keys) -> Audio:
        rates = 2.0 ** (-between(keys, "pitch-shift/semitones", self.min_semitones, self.max_semitones) / 12)
        lengths = np.rint(audio.shape[1] / rates).astype(np.int64)
        longer = stretched(audio, rates, int(lengths.max()))
        found = np.zeros_like(audio)
        # One transform a sample: each has a length of its own, so there is nothing to batch.
        for row, (length, rate) in enumerate(zip(lengths.tolist(), rates.tolist(), strict=True)):
            resized = resampled(longer[row, :length], int(np.ceil(length * rate)))[: audio.shape[1]]
            found[row, : len(resized)] = resized
        return np.clip(found, -1, 1, out=found)


@register_augmentation("time-shift", modality="audio")
@dataclass(frozen=True)
class TimeShift:
    """Moves the sound by `min_share` to `max_share` of its length; what falls off comes back in with `wrap`."""

    min_share: float = -0.5
    max_share: float = 0.5
    wrap: bool = True
    p: float = 0.5

    def __post_init__(self) -> None:
        check_range("time-shift", "share", self.min_share, self.max_share, -1, 1)
        check_probability("time-shift", self.p)

    def apply_audio(self, audio: Audio, keys: random.Keys) -> Audio:
        """(B, T) float32 -> the same shape; positive shares move to later. Reference: numpy.roll."""
        return _on_chosen(audio, keys, "time-shift", self.p, self._move)

    def _move(self, audio: Audio, keys: random.Keys) -> Audio:
        length = audio.shape[1]
        moves = np.rint(between(keys, "time-shift/share", self.min_share, self.max_share) * length).astype(np.int64)
        # A window into the sound written twice is the sound rolled: one copy of a row, no index per place.
        windows = np.lib.stride_tricks.sliding_window_view(np.concatenate([audio, audio], axis=1), length, axis=1)
        rolled: Audio = windows[np.arange(len(audio)), -moves % length]
        if self.wrap:
            return rolled
        source = np.arange(length) - moves[:, None]
        return np.where((source >= 0) & (source < length), rolled, np.float32(0))


@register_augmentation("volume", modality="audio")
@dataclass(frozen=True)
class Volume:
    """Makes the sound `min_db` to `max_db` decibels louder, clipped to [-1, 1]."""

    min_db: float = -12.0
    max_db: float = 12.0
    p: float = 0.5

    def __post_init__(self) -> None:
        check_range("volume", "db", self.min_db, self.max_db, -120, 120)
        check_probability("volume", self.p)

    def apply_audio(self, audio: Audio, keys: random.Keys) -> Audio:
        """(B, T) float32 -> the same shape, times 10^(decibels / 20)."""
        return _on_chosen(audio, keys, "volume", self.p, self._scale)

    def _scale(self, audio: Audio, keys: random.Keys) -> Audio:
        gain = (10.0 ** (between(keys, "volume/db", self.min_db, self.max_db) / 20)).astype(np.float32)
        found: Audio = audio * gain[:, None]
        return np.clip(found, -1, 1, out=found)


def _on_chosen(
    audio: Audio, keys: random.Keys, name: str, p: float, change: Callable[[Audio, random.Keys], Audio]
) -> Audio:
    """A copy in which the chosen samples are changed, a cacheful at a time. Raises DataError for another shape."""
    if audio.ndim != 2 or audio.dtype != np.float32:
        raise DataError(f"{name} takes audio as (B, T) float32, not {audio.shape} {audio.dtype}")
    found = np.array(audio, order="C")
    rows = np.flatnonzero(chosen(keys, name, p)) if audio.shape[1] else np.zeros(0, np.int64)
    step = max(1, _CHUNK // max(1, audio.shape[1]))
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        found[some] = change(found[some], keys[some])
    return found


def _white_noise(keys: random.Keys, length: int) -> Audio:
    """Standard normal, (B, length): 16 random bits pick one of 65,536 equally likely values."""
    words = random.bits(keys, ((length + 3) // 4,))
    sixteens = words.astype("<u8", copy=False).view("<u2")
    noise: Audio = _normal_quantiles()[sixteens[:, :length]]
    return noise


@functools.cache
def _normal_quantiles() -> NDArray[np.float32]:
    """The normal distribution in 65,536 slices of equal weight, each by its middle, at variance 1: up to 4.3 sigma."""
    middles = ndtri((np.arange(65536) + 0.5) / 65536)
    quantiles: NDArray[np.float32] = (middles / middles.std()).astype(np.float32)
    return quantiles
