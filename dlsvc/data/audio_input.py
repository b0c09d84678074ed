"""A sound as a picture for the model: log-mel spectrogram, MFCC or plain spectrogram, in decibels, or Kaldi's filter
banks (see kaldi.py), by numpy and scipy.

B sounds, N samples of each, T = 1 + N // hop steps, M bins. The numbers of the first three are librosa's
`power_to_db(melspectrogram)`, `mfcc` and `power_to_db(abs(stft) ** 2)` with their defaults: a periodic Hann window,
frames centred over zeros, mel scale and area norm by Slaney, 80 dB from the loudest bin to the floor. Each sound is
transformed by itself, so its bits don't depend on what else is in the batch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dlsvc.data import kaldi
from dlsvc.data.codecs import Samples, Undecodable, decode_audio, fit_length, length_of
from dlsvc.data.table import Table, chunks
from dlsvc.errors import DataError

if TYPE_CHECKING:
    from dlsvc.spec.data_sections import AudioSpec

Floats = NDArray[np.float64]

# librosa's power_to_db: what is silence, and how far below the loudest bin anything may lie.
_LEAST_POWER, _TOP_DB = 1e-10, 80.0
# Slaney's mel scale (Auditory Toolbox, 1998): linear up to 1 kHz, 15 mels there; then 27 mels for each factor of 6.4.
_LINEAR_HZ, _LINEAR_MELS, _HZ_A_MEL, _LOG_STEP = 1000.0, 15.0, 200.0 / 3, np.log(6.4) / 27
# Sounds that the mean and the deviation are taken of: more would not move them.
_FITTED = 1024
_AT_ONCE = 64


@dataclass(frozen=True)
class AudioInput:
    """Cut around its middle or followed by silence to `num_samples`, made into `features`, and standardised by the
    training split's mean and deviation of each bin. Kaldi's filter banks are cut at their end, and standardised by
    AudioSet's mean and twice its deviation, as AST reads them.
    """

    sample_rate: int
    num_samples: int
    features: str
    bins: int
    coefficients: int
    window: int
    hop: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """(M, T)"""
        if self._is_kaldi:
            return self.bins, kaldi.num_windows(self.num_samples, self.window, self.hop)
        rows = {"log-mel": self.bins, "mfcc": self.coefficients, "spectrogram": self.window // 2 + 1}
        return rows[self.features], 1 + self.num_samples // self.hop

    @property
    def _is_kaldi(self) -> bool:
        return self.features == kaldi.FEATURES

    def decode(self, sound: bytes | Samples) -> Samples:
        """(N,) float32 in [-1, 1], of a file's bytes, or of samples at this rate. Raises Undecodable."""
        if isinstance(sound, bytes):
            found = decode_audio(sound, self.sample_rate, self.num_samples, from_start=self._is_kaldi)
        elif sound.ndim != 1 or not np.isfinite(sound).all():
            raise Undecodable(f"not a sound of finite samples: {sound.ndim} axes")
        else:
            found = fit_length(sound.astype(np.float32, copy=False), self.num_samples, from_start=self._is_kaldi)
        if self._is_kaldi and length_of(found) < self.window:
            raise Undecodable(
                f"{length_of(found)} samples at {self.sample_rate} Hz, less than a window of {self.window}"
            )
        return found

    def spectrograms(self, audio: Samples) -> NDArray[np.float32]:
        """(B, N) -> (B, 1, M, T), standardised."""
        mean, std = (np.asarray(values)[:, None] for values in (self.mean, self.std))
        found = np.empty((len(audio), 1, *self.shape), np.float32)
        for row, sound in enumerate(audio):
            found[row, 0] = (self.transform(sound) - mean) / std
        return found

    def transform(self, sound: Samples) -> Floats:
        """(N,) -> (M, T) in decibels, as coefficients of them, or as natural logarithms of power (kaldi-fbank)."""
        if self._is_kaldi:
            return kaldi.filter_banks(sound, self.sample_rate, self.window, self.hop, self.bins)
        power = _power(sound, self.window, self.hop)
        if self.features == "spectrogram":
            return _decibels(power)
        mel = _decibels(_mel_bank(self.sample_rate, self.window, self.bins) @ power)
        return mel if self.features == "log-mel" else _cosines(mel, self.coefficients)

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> AudioInput:
        return cls(**{**state, "mean": tuple(state["mean"]), "std": tuple(state["std"])})


def fit_audio(asked: AudioSpec, table: Table) -> AudioInput:
    """What a spec asks for, with the mean and deviation of up to 1,024 sounds, evenly spread over the training split;
    Kaldi's filter banks with AudioSet's. Raises DataError when none of them can be decoded.
    """
    if "audio" not in table.columns:
        raise DataError(f"data.audio is set and the data has no audio column; it has {', '.join(table.columns)}")
    part = AudioInput(
        sample_rate=asked.sample_rate,
        num_samples=asked.num_samples,
        features=asked.features,
        bins=asked.bins,
        coefficients=asked.coefficients,
        window=asked.window,
        hop=asked.hop,
    )
    if part.features == kaldi.FEATURES:
        return standardised(part, kaldi.AUDIOSET_MEAN, 2 * kaldi.AUDIOSET_STD)
    mean, std = _statistics(_transformed(part, table))
    return dataclasses.replace(part, mean=tuple(mean.tolist()), std=tuple(std.tolist()))


def standardised(part: AudioInput, mean: float, std: float) -> AudioInput:
    """With one mean and one divisor for all bins."""
    return dataclasses.replace(part, mean=(mean,) * part.bins, std=(std,) * part.bins)


def _transformed(part: AudioInput, table: Table) -> Iterator[Floats]:
    """The spectrograms (M, T) of those sounds that can be decoded."""
    places = np.linspace(0, len(table) - 1, min(len(table), _FITTED)).astype(np.int64)
    for ids in chunks(len(places), _AT_ONCE):
        for sound in table.rows(places[ids])["audio"]:
            with contextlib.suppress(Undecodable):
                yield part.transform(part.decode(sound))


def _statistics(pictures: Iterable[Floats]) -> tuple[Floats, Floats]:
    """The mean and the deviation of each bin, (M,) both."""
    count, total, squares = 0, np.zeros(1), np.zeros(1)
    for found in pictures:
        count += found.shape[1]
        total, squares = total + found.sum(axis=1), squares + np.square(found).sum(axis=1)
    if not count:
        raise DataError("none of the training split's sounds can be decoded")
    mean: Floats = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    std[std < 1e-6] = 1  # a constant bin becomes 0
    return mean, std


def _power(sound: Samples, window: int, hop: int) -> Floats:
    """The squared magnitudes of each frame's spectrum, (window // 2 + 1, T)."""
    # Here: the server of images does without.
    from scipy import fft

    # An odd window has one sample more after its middle than before.
    padded = np.pad(sound.astype(np.float64), (window // 2, (window + 1) // 2))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop][: 1 + len(sound) // hop]
    spectrum = fft.rfft(frames * _hann(window), axis=1)
    power: Floats = np.square(spectrum.real) + np.square(spectrum.imag)
    return np.ascontiguousarray(power.T)


@functools.cache
def _hann(window: int) -> Floats:
    """Periodic: its copies, half a window apart, add up to one."""
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window))


@functools.lru_cache(maxsize=16)
def _mel_bank(sample_rate: int, window: int, bins: int) -> Any:
    """Triangles over the spectrum's bins, each of area 1 in Hz, as a sparse (bins, window // 2 + 1): the product then
    sums the few bins of a band in their order, whatever the shapes, where BLAS would choose.
    """
    from scipy.sparse import csr_array

    edges = _mel_to_hz(np.linspace(0, _hz_to_mel(sample_rate / 2), bins + 2))
    bins_hz = np.arange(1 + window // 2) * (sample_rate / window)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = np.minimum((bins_hz - low) / (centre - low), (high - bins_hz) / (high - centre))
    return csr_array(np.maximum(triangles, 0) * 2 / (high - low))


def _hz_to_mel(frequency: float) -> float:
    if frequency < _LINEAR_HZ:
        return frequency / _HZ_A_MEL
    return float(_LINEAR_MELS + np.log(frequency / _LINEAR_HZ) / _LOG_STEP)


def _mel_to_hz(mels: Floats) -> Floats:
    above = _LINEAR_HZ * np.exp((mels - _LINEAR_MELS) * _LOG_STEP)
    return np.asarray(np.where(mels < _LINEAR_MELS, mels * _HZ_A_MEL, above))


def _decibels(power: Floats) -> Floats:
    level = 10 * np.log10(np.maximum(power, _LEAST_POWER))
    return np.asarray(np.maximum(level, level.max() - _TOP_DB))


def _cosines(mel: Floats, count: int) -> Floats:
    """The first coefficients of the orthonormal cosine transform (DCT-II) over the bands."""
    from scipy import fft

    return np.asarray(fft.dct(mel, axis=0, norm="ortho")[:count])
