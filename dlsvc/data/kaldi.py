"""Kaldi's log-mel filter banks as AST reads them, by numpy and scipy in float64.

N samples of a sound, W of a window, T = 1 + (N - W) // hop windows, M bands. The steps are those of Kaldi's `fbank`
(feature-window.cc, feature-fbank.cc and mel-computations.cc) with `--dither=0 --window-type=hanning`. Of each window
that fits the mean is taken off, then 0.97 of the sample before (of the first, of itself); the Hann window with both
ends is laid over it, and zeros follow up to a power of two. The power spectrum is gathered by triangles over Kaldi's
mel scale, 1127 ln(1 + f / 700), from 20 Hz to half the rate, and its natural logarithm is taken, of float32's epsilon
at least.

AST (Gong, Chung and Glass 2021, section 2.1, and their code) reads (x - mean) / (2 std) of them, with AudioSet's mean
and deviation, and x = 0 in place of windows that reach past a sound's end.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsvc.data.codecs import Samples, length_of

Floats = NDArray[np.float64]

FEATURES = "kaldi-fbank"
AUDIOSET_MEAN, AUDIOSET_STD = -4.2677393, 4.5689974

_EMPHASIS = 0.97
_LOWEST_HZ = 20.0
_LEAST = float(np.finfo(np.float32).eps)


def num_windows(num_samples: int, window: int, hop: int) -> int:
    """How many windows fit into so many samples."""
    return max(0, 1 + (num_samples - window) // hop)


def filter_banks(sound: Samples, sample_rate: int, window: int, hop: int, bins: int) -> Floats:
    """(N,) -> (M, T); windows that reach past the sound's end are 0."""
    # Here: the server of images does without.
    from scipy import fft

    frames = np.lib.stride_tricks.sliding_window_view(sound.astype(np.float64), window)[::hop]  # (T, W)
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    size = _transform_size(window)
    spectrum = fft.rfft((frames - _EMPHASIS * before) * np.hanning(window), n=size, axis=1)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    found: Floats = np.log(np.maximum(_mel_bank(sample_rate, size, bins) @ power.T, _LEAST))
    found[:, num_windows(length_of(sound), window, hop) :] = 0
    return found


def _transform_size(window: int) -> int:
    return 1 << (window - 1).bit_length()


@functools.lru_cache(maxsize=16)
def _mel_bank(sample_rate: int, size: int, bins: int) -> Any:
    """Triangles of height 1, straight over mels and not over Hz, as a sparse (bins, size // 2 + 1)."""
    from scipy.sparse import csr_array

    lowest, highest = _mel(np.asarray([_LOWEST_HZ, sample_rate / 2], np.float64)).tolist()
    edges = np.linspace(lowest, highest, bins + 2, dtype=np.float64)
    points = _mel(np.arange(1 + size // 2, dtype=np.float64) * (sample_rate / size))
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = np.minimum((points - low) / (centre - low), (high - points) / (high - centre))
    return csr_array(np.maximum(triangles, 0))


def _mel(frequency: Floats) -> Floats:
    return np.asarray(1127.0 * np.log1p(frequency / 700.0))
