"""Kaldi's filter banks: the definition written out plainly, and what follows a sound's end."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from dlsvc.augment.audio import Noise, Volume
from dlsvc.data import kaldi
from dlsvc.data.audio_input import AudioInput, fit_audio
from dlsvc.data.codecs import Undecodable
from dlsvc.data.preprocess import Preprocess
from dlsvc.data.table import ResidentTable, pack
from dlsvc.spec.data_sections import AudioSpec
from tests.data.test_audio_input import sound, wav

RATE = 16000
TOLERANCE = 1e-9


def part(rate: int = RATE, **asked: object) -> AudioInput:
    spec = AudioSpec.model_validate({"features": "kaldi-fbank", "sample_rate": rate, "bins": 128, **asked})
    return fit_audio(spec, ResidentTable(pack({"audio": [wav(sound(1))]})))


def noise(seed: int, count: int) -> np.ndarray:
    """A tone in noise away from zero, (T,) float32."""
    time = np.arange(count) / RATE
    random = np.random.default_rng(seed)
    return (0.1 + 0.4 * np.sin(2 * np.pi * 700 * seed * time) + 0.05 * random.normal(size=count)).astype(np.float32)


def by_definition(wave: np.ndarray, rate: int, window: int, hop: int, bins: int) -> list[list[float]]:
    """(T, M), one window and one number after the other, in Python's own floats."""
    size = 1
    while size < window:
        size *= 2
    hann = [0.5 - 0.5 * math.cos(2 * math.pi * n / (window - 1)) for n in range(window)]
    low, high = 1127 * math.log(1 + 20 / 700), 1127 * math.log(1 + rate / 2 / 700)
    step = (high - low) / (bins + 1)
    turns = np.exp(-2j * np.pi * np.outer(np.arange(size // 2), np.arange(window)) / size)
    rows = []
    for start in range(0, len(wave) - window + 1, hop):
        frame = [float(value) for value in wave[start : start + window]]
        mean = sum(frame) / window
        frame = [value - mean for value in frame]
        sharp = [frame[n] - 0.97 * frame[max(0, n - 1)] for n in range(window)]
        power = np.abs(turns @ np.asarray([a * b for a, b in zip(sharp, hann, strict=True)])) ** 2
        row = []
        for band in range(bins):
            left, middle, right = (low + step * (band + place) for place in range(3))
            energy = 0.0
            for place, value in enumerate(power):
                mel = 1127 * math.log(1 + place * rate / size / 700)
                if left < mel <= middle:
                    energy += float(value) * (mel - left) / (middle - left)
                elif middle < mel < right:
                    energy += float(value) * (right - mel) / (right - middle)
            row.append(math.log(max(energy, 2.0**-23)))
        rows.append(row)
    return rows


@pytest.mark.parametrize(
    ("rate", "window", "hop", "bins"),
    [(16000, 400, 160, 128), (16000, 400, 160, 23), (8000, 200, 80, 40), (16000, 512, 99, 64)],
)
def test_by_the_definition(rate: int, window: int, hop: int, bins: int) -> None:
    made = part(rate, seconds=1200 / rate, window=window, hop=hop, bins=bins)
    wave = noise(1, 1200)
    wave[450:] = 0  # silence, which is as loud as float32's epsilon
    found, want = made.transform(wave), np.asarray(by_definition(wave, rate, window, hop, bins)).T
    assert found.shape == want.shape == made.shape
    np.testing.assert_allclose(found, want, rtol=0, atol=TOLERANCE)
    assert found.min() == pytest.approx(math.log(2**-23))


def test_standardised_as_ast_reads_it() -> None:
    made, wave = part(seconds=0.1), noise(2, 1600)
    want = (np.asarray(by_definition(wave, RATE, 400, 160, 128)).T + 4.2677393) / (2 * 4.5689974)
    np.testing.assert_allclose(made.spectrograms(wave[None])[0, 0], want, rtol=0, atol=1e-6)


def test_windows_past_the_end_are_zero_and_silence_is_not() -> None:
    """1,000 samples hold windows 0 to 3; window 4 would end at 1,040."""
    made, wave = part(seconds=0.1), noise(3, 1000)
    wave[990:] = 0
    wave[0] = -0.0
    decoded = made.decode(wav(wave, RATE))
    found = made.transform(decoded)
    np.testing.assert_allclose(found[:, :4], np.asarray(by_definition(wave, RATE, 400, 160, 128)).T, atol=TOLERANCE)
    assert found.shape == (128, 8)
    assert not found[:, 4:].any()
    standard = made.spectrograms(decoded[None])[0, 0]
    np.testing.assert_allclose(standard[:, 4:], 4.2677393 / (2 * 4.5689974), rtol=1e-6)
    np.testing.assert_array_equal(made.decode(wave), decoded)


def test_longer_sounds_keep_their_start() -> None:
    made, wave = part(seconds=0.1), noise(1, 4000)
    np.testing.assert_array_equal(made.decode(wav(wave, RATE)), wave[:1600])
    other = made.decode(wav(np.repeat(wave, 2), 2 * RATE))
    assert other.shape == (1600,)
    assert np.corrcoef(other, wave[:1600])[0, 1] > 0.99


def test_less_than_a_window_is_no_sound() -> None:
    with pytest.raises(Undecodable, match="399 samples at 16000 Hz, less than a window of 400"):
        part(seconds=0.1).decode(wav(noise(1, 399), RATE))


def test_bits_do_not_depend_on_the_batch_and_survive_the_bundle() -> None:
    made = part(seconds=0.2)
    waves = np.stack([made.decode(noise(seed, 1000 + 500 * seed)) for seed in range(5)])
    together = made.spectrograms(waves)
    for place in range(5):
        np.testing.assert_array_equal(made.spectrograms(waves[place : place + 1])[0], together[place])
    preprocess = Preprocess(audio=made)
    again = Preprocess.from_json(json.loads(json.dumps(preprocess.to_json())))
    served = again.from_request([{"audio": wav(noise(seed, 1000 + 500 * seed), RATE)} for seed in range(5)])
    np.testing.assert_array_equal(served["spectrogram"], together)


def test_the_spec_counts_the_same_steps() -> None:
    for seconds, steps in ((0.025, 1), (0.0349, 1), (0.035, 2), (10.255, 1024)):
        spec = AudioSpec(seconds=seconds, features="kaldi-fbank", bins=128)
        assert spec.num_steps == steps == part(seconds=seconds).shape[1]
        assert spec.num_bins == 128
    with pytest.raises(ValueError, match="160 samples hold no window of 400; ask for more seconds"):
        AudioSpec(seconds=0.01, features="kaldi-fbank")
    with pytest.raises(ValueError, match="kaldi-fbank would ignore coefficients"):
        AudioSpec(seconds=1, features="kaldi-fbank", coefficients=3)
    assert kaldi.num_windows(399, 400, 160) == 0


def test_augmented_sounds_keep_their_end_until_noise_covers_it() -> None:
    made, key = part(seconds=0.1), np.arange(1, dtype=np.uint64)
    whole = made.decode(noise(3, 1000))[None]
    louder = Volume(min_db=-6, max_db=-6, p=1).apply_audio(whole, key)
    empty = [not made.transform(sounds[0])[:, 4:].any() for sounds in (whole, louder)]
    assert empty == [True, True]
    assert made.transform(Noise(p=1).apply_audio(whole, key)[0])[:, 4:].all()
