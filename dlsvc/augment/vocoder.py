"""A phase vocoder over a batch whose samples have rates of their own, and band-limited resampling.

Definitions: librosa's `phase_vocoder` (Hann window of 2,048, hop of 512, centred, silence around) and SciPy's
`signal.resample`. B samples, T samples of sound, F frames, K = N / 2 + 1 bins.

The vocoder needs no angles. Its accumulated phase, advance included, is a sum of differences of neighbouring frames'
angles up to whole turns; so the phasor is a product of neighbouring unit phasors' ratios.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Audio = NDArray[np.float32]
Spectra = NDArray[np.complex64]
Plane = NDArray[np.float32]

N_FFT, HOP = 2048, 512
_OVERLAP = N_FFT // HOP
# A batch of transforms runs in groups of the processor's vector width, and a remainder one by one. Whole groups only,
# so that a frame's path doesn't depend on the batch.
_GROUP = 16
# Below this a bin is silent: it has no angle (librosa gives it angle 0).
_SILENT = np.float32(1e-15)


def stretched(audio: Audio, rates: NDArray[np.float64], length: int) -> Audio:
    """(B, T) float32 at (B,) rates -> (B, length): rate 2 is twice as fast; silence after round(T / rate)."""
    spectra = _stft(audio)
    lengths = np.minimum(np.rint(audio.shape[1] / rates).astype(np.int64), length)
    # As many frames as there is sound for, and no more than reach what is kept.
    reach = -(-(lengths + N_FFT) // HOP)
    counts = np.minimum(np.ceil((spectra.shape[1] - 2) / rates).astype(np.int64), reach)
    found = _istft(_vocoded(spectra, rates, int(counts.max())), counts, length)
    found[np.arange(length) >= lengths[:, None]] = 0
    return found


def resampled(sound: Audio, count: int) -> Audio:
    """(T,) float32 -> (count,): its spectrum cut or padded with zeros, as SciPy's `signal.resample`."""
    if count == len(sound):
        return sound
    shorter = min(count, len(sound))
    spectrum = np.zeros(count // 2 + 1, np.complex64)
    spectrum[: shorter // 2 + 1] = fft.rfft(sound)[: shorter // 2 + 1]
    if shorter % 2 == 0:
        # The shorter length's Nyquist bin stands for two bins of the longer.
        spectrum[shorter // 2] *= 2.0 if count < len(sound) else 0.5
    found: Audio = fft.irfft(spectrum, count)
    found *= np.float32(count / len(sound))
    return found


def _vocoded(spectra: Spectra, rates: NDArray[np.float64], count: int) -> Spectra:
    """(B, F, K) -> (B, count, K): frame t is read at t x rate, its phase carried on from frame to frame."""
    loudness, real, imag = _polar(spectra)
    turn_real, turn_imag = _product(real[:, 1:], imag[:, 1:], real[:, :-1], -imag[:, :-1])  # each frame to the next
    now_real, now_imag = real[:, 0], imag[:, 0]
    found = np.empty((len(spectra), count, spectra.shape[2]), np.complex64)
    steps = np.arange(count) * rates[:, None]  # (B, count)
    # Frames past the end belong to the sounds of the batch that last longer; the inverse leaves them out here.
    places = np.minimum(steps.astype(np.int64), spectra.shape[1] - 2)
    shares = (steps % 1.0).astype(np.float32)
    rows = np.arange(len(spectra))
    for frame in range(count):
        place, share = places[:, frame], shares[:, frame, None]
        loud = loudness[rows, place] * (1 - share) + loudness[rows, place + 1] * share
        np.multiply(now_real, loud, out=found[:, frame].real)
        np.multiply(now_imag, loud, out=found[:, frame].imag)
        now_real, now_imag = _product(now_real, now_imag, turn_real[rows, place], turn_imag[rows, place])
    return found


def _polar(spectra: Spectra) -> tuple[Plane, Plane, Plane]:
    """Magnitudes, and the real and imaginary parts of the unit phasors: 1 where a bin is silent."""
    real, imag = spectra.real.copy(), spectra.imag.copy()
    loudness = np.sqrt(real * real + imag * imag)
    silent = loudness < _SILENT
    scale = 1 / np.where(silent, np.float32(1), loudness)
    real *= scale
    imag *= scale
    real[silent], imag[silent] = 1, 0
    return loudness, real, imag


def _product(real: Plane, imag: Plane, other_real: Plane, other_imag: Plane) -> tuple[Plane, Plane]:
    """Of complex numbers in parts: NumPy's own product rounds in another way where its arrays aren't contiguous."""
    return real * other_real - imag * other_imag, real * other_imag + imag * other_real


def _stft(audio: Audio) -> Spectra:
    """(B, T) -> (B, 1 + T // HOP + 2, K): two frames of silence follow, for the last places read between frames."""
    batch, length = audio.shape
    frames = 1 + length // HOP
    padded = np.pad(audio, ((0, 0), (N_FFT // 2, N_FFT // 2)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, N_FFT, axis=1)[:, ::HOP][:, :frames]
    grouped = _grouped(batch * frames, N_FFT, np.float32)
    np.multiply(windows, _hann(), out=grouped[: batch * frames].reshape(batch, frames, N_FFT))
    found = np.zeros((batch, frames + 2, N_FFT // 2 + 1), np.complex64)
    found[:, :frames] = fft.rfft(grouped)[: batch * frames].reshape(batch, frames, -1)
    return found


def _istft(spectra: Spectra, counts: NDArray[np.int64], length: int) -> Audio:
    """(B, F, K), counts[b] frames of it sample b's -> (B, length): overlapped, added, over the windows' squares."""
    batch, frames = spectra.shape[:2]
    spectra[np.arange(frames) >= counts[:, None]] = 0
    grouped = _grouped(batch * frames, spectra.shape[2], np.complex64)
    grouped[: batch * frames] = spectra.reshape(batch * frames, -1)
    pieces = fft.irfft(grouped, N_FFT, overwrite_x=True)[: batch * frames]
    pieces *= _hann()
    pieces = pieces.reshape(batch, frames, _OVERLAP, HOP)
    blocks = max(frames + _OVERLAP - 1, -(-(length + N_FFT) // HOP))
    total = np.zeros((batch, blocks, HOP), np.float32)
    for part in range(_OVERLAP):
        total[:, part : part + frames] += pieces[:, :, part]
    total /= _weights(counts, blocks)
    return total.reshape(batch, -1)[:, N_FFT // 2 : N_FFT // 2 + length].copy()


def _weights(counts: NDArray[np.int64], blocks: int) -> NDArray[np.float32]:
    """The sum of squared windows over each block of HOP, (B, blocks, HOP); 1 where there is next to none."""
    squares = np.square(_hann()).reshape(_OVERLAP, HOP)
    # A block is covered by the window's part k if its frame, block - k, is one of the sample's.
    frame = np.arange(blocks)[:, None] - np.arange(_OVERLAP)  # (blocks, parts)
    covered = (frame >= 0) & (frame < counts[:, None, None])  # (B, blocks, parts)
    kinds = np.arange(1 << _OVERLAP)[:, None] >> np.arange(_OVERLAP) & 1  # every set of parts
    sums = (kinds[:, :, None] * squares).sum(axis=1, dtype=np.float32)
    sums[sums <= np.finfo(np.float32).tiny] = 1
    weights: NDArray[np.float32] = sums[(covered << np.arange(_OVERLAP)).sum(axis=2)]
    return weights


def _grouped(rows: int, width: int, dtype: Any) -> NDArray[Any]:
    """Room for the rows, in whole groups; what is beyond them is zero."""
    room = np.empty((-(-rows // _GROUP) * _GROUP, width), dtype)
    room[rows:] = 0
    return room


@functools.cache
def _hann() -> NDArray[np.float32]:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)).astype(np.float32)
