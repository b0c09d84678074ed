"""Augmentations of audio: each against its reference, and the properties that all of them share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.signal
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from dlsvc.augment import keys
from dlsvc.augment.audio import Noise, PitchShift, TimeShift, TimeStretch, Volume
from dlsvc.augment.registry import resolve
from dlsvc.augment.vocoder import resampled, stretched
from dlsvc.errors import DataError, UsageError
from tests.augment.references import fitted, plain_stretch, sounds

ALL = (Noise(p=1), TimeStretch(p=1), PitchShift(p=1), TimeShift(p=1), TimeShift(wrap=False, p=1), Volume(p=1))
by_name = pytest.mark.parametrize("augmentation", ALL, ids=lambda one: f"{type(one).__name__}-{vars(one)}"[:60])


def words(count: int) -> keys.Keys:
    ids = np.arange(count, dtype=np.int64)
    return keys.sample_keys(0, np.zeros_like(ids), ids)


@pytest.mark.parametrize("rate", [0.5, 0.83, 1.0, 1.31, 2.0])
def test_stretch_is_the_textbook_vocoder(rate: float) -> None:
    audio = sounds(3)
    found = TimeStretch(rate, rate, p=1).apply_audio(audio, words(3))
    want = [fitted(plain_stretch(sound, rate), 6000) for sound in audio]
    np.testing.assert_allclose(found, want, atol=1e-5)


@pytest.mark.parametrize(("length", "count"), [(100, 150), (100, 151), (101, 60), (160, 121), (160, 160), (97, 96)])
def test_resampling_is_scipys(length: int, count: int) -> None:
    sound = sounds(1, length)[0]
    np.testing.assert_allclose(resampled(sound, count), scipy.signal.resample(sound, count), atol=1e-6)


@pytest.mark.parametrize("rate", [0.5, 0.9, 1.2, 2.5])
def test_stretch_is_librosas(rate: float) -> None:
    librosa = pytest.importorskip("librosa", reason="librosa is the reference, and no dependency of ours")
    audio = sounds(2)
    want = [fitted(librosa.effects.time_stretch(one.astype(np.float64), rate=rate), 6000) for one in audio]
    np.testing.assert_allclose(TimeStretch(rate, rate, p=1).apply_audio(audio, words(2)), want, atol=1e-5)


@pytest.mark.parametrize("semitones", [-7, -1.5, 0, 2, 12])
def test_pitch_shift_is_librosas(semitones: float) -> None:
    librosa = pytest.importorskip("librosa", reason="librosa is the reference, and no dependency of ours")
    audio = sounds(2)
    want = [
        librosa.effects.pitch_shift(one.astype(np.float64), sr=16000, n_steps=semitones, res_type="scipy")
        for one in audio
    ]
    np.testing.assert_allclose(PitchShift(semitones, semitones, p=1).apply_audio(audio, words(2)), want, atol=1e-5)


@pytest.mark.parametrize("semitones", [-5.0, 3.0])
def test_pitch_shift_moves_a_tone_and_stretch_leaves_it(semitones: float) -> None:
    tone = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)).astype(np.float32)[None]
    moved = PitchShift(semitones, semitones, p=1).apply_audio(tone, words(1))[0]
    assert abs(loudest(moved[2000:14000]) - 1000 * 2 ** (semitones / 12)) < 3
    assert abs(loudest(stretched(tone, np.array([0.7]), 16000)[0]) - 1000) < 3


def loudest(sound: np.ndarray) -> float:
    """The frequency of most power, in Hz at 16 kHz."""
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 160000))
    return float(power.argmax() / 10)


def test_noise_has_the_ratio_asked_for_and_is_white() -> None:
    audio = sounds(4, 40000)
    noise = Noise(20, 20, p=1).apply_audio(audio, words(4)) - audio
    ratio = 10 * np.log10((audio**2).mean(axis=1) / (noise**2).mean(axis=1))
    np.testing.assert_allclose(ratio, 20, atol=0.1)
    scaled = noise / noise.std(axis=1, keepdims=True)
    lag = (scaled[:, 1:] * scaled[:, :-1]).mean(axis=1)
    assert np.abs(lag).max() < 0.02
    assert abs((scaled**4).mean() - 3) < 0.1  # a normal's kurtosis
    assert abs(np.corrcoef(noise)[0, 1]) < 0.02


@pytest.mark.parametrize("share", [-1, -0.3, 0, 0.25, 1])
def test_time_shift_is_a_roll(share: float) -> None:
    audio = sounds(3, 1001)
    places = round(share * 1001)
    rolled = np.roll(audio, places, axis=1)
    np.testing.assert_array_equal(TimeShift(share, share, p=1).apply_audio(audio, words(3)), rolled)
    silent = slice(0, places) if places >= 0 else slice(places, None)
    rolled[:, silent] = 0
    np.testing.assert_array_equal(TimeShift(share, share, wrap=False, p=1).apply_audio(audio, words(3)), rolled)


@pytest.mark.parametrize("decibels", [-20, 0, 6, 40])
def test_volume_multiplies_and_clips(decibels: float) -> None:
    audio = sounds(2)
    want = np.clip(audio * 10 ** (decibels / 20), -1, 1)
    np.testing.assert_allclose(Volume(decibels, decibels, p=1).apply_audio(audio, words(2)), want, rtol=1e-6)


@by_name
@pytest.mark.parametrize("length", [1, 700, 6001])
def test_equal_bits_alone_and_in_any_batch(augmentation: Any, length: int) -> None:
    audio, own = sounds(23, length), words(23)
    whole = augmentation.apply_audio(audio, own)
    order = np.random.default_rng(1).permutation(23)
    np.testing.assert_array_equal(augmentation.apply_audio(audio[order], own[order]), whole[order])
    for size in (1, 3, 8):
        parts = [augmentation.apply_audio(audio[at : at + size], own[at : at + size]) for at in range(0, 23, size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


@by_name
@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(0, 6),
    length=st.integers(0, 4000),
    level=st.sampled_from([0.0, 1e-30, 0.1, 1.0]),
    seed=st.integers(0, 2**63),
)
def test_any_audio_keeps_shape_type_range_and_source(
    augmentation: Any, count: int, length: int, level: float, seed: int
) -> None:
    audio = (level * np.random.default_rng(seed).uniform(-1, 1, (count, length))).astype(np.float32)
    before, own = audio.copy(), keys.mix(np.arange(seed, seed + count, dtype=np.uint64))
    found = augmentation.apply_audio(audio, own)
    assert (found.shape, found.dtype) == (audio.shape, np.float32)
    assert np.isfinite(found).all()
    assert (np.abs(found) <= 1).all()
    np.testing.assert_array_equal(audio, before)
    never = dataclasses.replace(augmentation, p=0.0).apply_audio(audio, own)
    np.testing.assert_array_equal(never, audio)
    assert never is not audio


@by_name
def test_about_its_share_of_the_samples_is_changed(augmentation: Any) -> None:
    audio = sounds(300, 600)
    found = dataclasses.replace(augmentation, p=0.3).apply_audio(audio, words(300))
    assert 60 < (found != audio).any(axis=1).sum() < 120


def test_parameters_are_uniform_in_their_range() -> None:
    """Kolmogorov and Smirnov's statistic of 2,000 draws read back from results."""
    audio = np.full((2000, 16), 0.1, np.float32)
    decibels = 20 * np.log10(Volume(-12, 6, p=1).apply_audio(audio, words(2000))[:, 0] / 0.1)
    assert scipy.stats.kstest(decibels, scipy.stats.uniform(-12, 18).cdf).pvalue > 0.01
    pulse = np.zeros((2000, 1000), np.float32)
    pulse[:, 0] = 1
    places = TimeShift(0, 0.8, p=1).apply_audio(pulse, words(2000)).argmax(axis=1)
    assert scipy.stats.kstest(places / 1000, scipy.stats.uniform(0, 0.8).cdf).pvalue > 0.01


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Noise(p=1.5), r"audio-noise: p must be in \[0, 1\], not 1.5"),
        (lambda: Noise(min_db=10, max_db=5), "min_db must be at most max_db, not 10 with 5"),
        (lambda: TimeStretch(min_rate=0), r"time-stretch: min_rate must be in \[0.1, 10\], not 0"),
        (lambda: PitchShift(max_semitones=30), r"max_semitones must be in \[-24, 24\]"),
        (lambda: TimeShift(min_share=-2), r"min_share must be in \[-1, 1\]"),
        (lambda: Volume(max_db=float("nan")), "max_db must be in"),
    ],
)
def test_wrong_parameters_are_refused(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build()


@pytest.mark.parametrize("audio", [np.zeros(5, np.float32), np.zeros((2, 5)), np.zeros((2, 5, 1), np.float32)])
def test_other_shapes_and_types_are_refused(audio: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"volume takes audio as \(B, T\) float32"):
        Volume().apply_audio(audio, words(2))


def test_each_is_found_by_its_name() -> None:
    names = ("audio-noise", "time-stretch", "pitch-shift", "time-shift", "volume")
    assert [resolve(name).load() for name in names] == [Noise, TimeStretch, PitchShift, TimeShift, Volume]
    assert {resolve(name).modality for name in names} == {"audio"}
