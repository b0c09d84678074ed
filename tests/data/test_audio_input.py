"""Sounds as pictures: the numbers of librosa, the same bits in any batch, bad files as bad rows."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dlsvc.augment.pipeline import Pipeline
from dlsvc.augment.registry import build_augmentations
from dlsvc.data.atom import AtomBuilder
from dlsvc.data.audio_input import AudioInput, fit_audio
from dlsvc.data.codecs import Undecodable
from dlsvc.data.fit import build_preprocess
from dlsvc.data.order import Shuffled
from dlsvc.data.plan import Plan
from dlsvc.data.preprocess import Preprocess
from dlsvc.data.quarantine import Quarantine
from dlsvc.data.source import open_source
from dlsvc.data.table import ResidentTable, pack
from dlsvc.errors import DataError
from dlsvc.spec.data_sections import AudioSpec, AugmentSpec, DataSpec

RATE = 8000
ASKED = {"sample_rate": RATE, "seconds": 0.5, "bins": 24, "window": 256, "hop": 100}


def sound(seed: int, seconds: float = 0.5) -> np.ndarray:
    """A chirp in noise, (T,) float32."""
    time = np.arange(int(seconds * RATE)) / RATE
    noise = np.random.default_rng(seed).normal(size=len(time))
    return (0.5 * np.sin(2 * np.pi * (200 + 900 * seed * time) * time) + 0.01 * noise).astype(np.float32)


def wav(wave: np.ndarray, rate: int = RATE) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, wave, rate, format="WAV", subtype="FLOAT")
    return out.getvalue()


def part(**other: object) -> AudioInput:
    asked = AudioSpec.model_validate(ASKED | other)
    table = ResidentTable(pack({"audio": [wav(sound(seed)) for seed in range(5)]}))
    return fit_audio(asked, table)


def plain(made: AudioInput) -> AudioInput:
    """Without standardising."""
    return replace(made, mean=(0.0,) * made.shape[0], std=(1.0,) * made.shape[0])


@pytest.mark.parametrize("features", ["log-mel", "mfcc", "spectrogram"])
@pytest.mark.parametrize(("window", "hop"), [(256, 100), (400, 160), (255, 64)])
def test_features_are_librosas(features: str, window: int, hop: int) -> None:
    librosa = pytest.importorskip("librosa", reason="librosa is the reference, and no dependency of ours")
    # A plain spectrogram has no bands, and refuses to be told how many.
    bins = AudioSpec.model_fields["bins"].default if features == "spectrogram" else 24
    made = part(features=features, window=window, hop=hop, bins=bins)
    wave = sound(3)
    common = {"y": wave.astype(np.float64), "n_fft": window, "hop_length": hop}
    if features == "mfcc":
        want = librosa.feature.mfcc(**common, sr=RATE, n_mels=24, n_mfcc=20)
    elif features == "log-mel":
        want = librosa.power_to_db(librosa.feature.melspectrogram(**common, sr=RATE, n_mels=24))
    else:
        want = librosa.power_to_db(np.abs(librosa.stft(**common)) ** 2)
    found = made.transform(wave)
    assert found.shape == want.shape == made.shape
    np.testing.assert_allclose(found, want, atol=1e-4)
    assert plain(made).spectrograms(wave[None]).shape == (1, 1, *want.shape)


def test_a_tone_lights_its_band_by_the_definition() -> None:
    """1 kHz is 15 mels, half of what 24 bands to 4 kHz reach over: its energy lies where the formula says."""
    tone = np.sin(2 * np.pi * 1000 * np.arange(4000) / RATE).astype(np.float32)
    mels = 15 + np.log(4000 / 1000) * 27 / np.log(6.4)
    band = round(15 / (mels / 25)) - 1
    assert part().transform(tone)[:, 20].argmax() == band


def test_silence_is_finite_and_flat() -> None:
    found = part().spectrograms(np.zeros((2, 4000), np.float32))
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[0], found[1])


def test_bits_do_not_depend_on_the_batch() -> None:
    made, waves = part(), np.stack([sound(seed) for seed in range(7)])
    together = made.spectrograms(waves)
    for place in range(7):
        np.testing.assert_array_equal(made.spectrograms(waves[place : place + 1])[0], together[place])
    np.testing.assert_array_equal(made.spectrograms(waves[::-2]), together[::-2])


def test_the_training_split_is_standardised_bin_by_bin() -> None:
    made = part()
    found = made.spectrograms(np.stack([made.decode(wav(sound(seed))) for seed in range(5)]))
    np.testing.assert_allclose(found.mean(axis=(0, 1, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(found.std(axis=(0, 1, 3)), 1, atol=1e-4)


def test_clips_are_cut_around_their_middle_or_padded() -> None:
    made, long = part(), sound(1, 1.0)
    np.testing.assert_array_equal(made.decode(wav(long)), long[2000:6000])
    short = made.decode(wav(long[:1000]))
    np.testing.assert_array_equal(short, np.pad(long[:1000], (0, 3000)))
    np.testing.assert_array_equal(made.decode(long), made.decode(wav(long)))


def test_another_rate_is_resampled() -> None:
    wave = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000).astype(np.float32)
    found = part(seconds=1).decode(wav(wave, 16000))
    spectrum = np.abs(np.fft.rfft(found))
    assert spectrum.argmax() == 440


def test_a_header_cannot_ask_for_endless_work() -> None:
    """One sample a second, as a header may say, would be 8,000 times as many at 8 kHz."""
    found = part().decode(wav(np.ones(100_000, np.float32) / 2, 1))
    assert found.shape == (4000,)


@pytest.mark.parametrize("bad", [b"", b"RIFF", b"no sound", wav(sound(0))[:500], np.full(10, np.nan, np.float32)])
def test_what_is_no_sound_is_undecodable(bad: bytes | np.ndarray) -> None:
    with pytest.raises(Undecodable):
        part().decode(bad)


def test_bad_rows_are_named_and_hold_zeros() -> None:
    preprocess = Preprocess(audio=part())
    rows = {"audio": [wav(sound(1)), b"", wav(sound(2))[:100]], "uri": ["a", "b", "c"], "label": np.arange(3)}
    samples, bad = preprocess.decode(rows)
    assert [(row.position, row.uri) for row in bad] == [(1, "b"), (2, "c")]
    assert samples["audio"].any(axis=1).tolist() == [True, False, False]


def test_state_round_trip_and_requests_take_the_same_path() -> None:
    preprocess = Preprocess(audio=part(features="mfcc", bins=24), classes=("a", "b"))
    again = Preprocess.from_json(json.loads(json.dumps(preprocess.to_json())))
    assert again == preprocess
    rows = {"audio": [wav(sound(seed)) for seed in range(3)]}
    trained = preprocess.finish(preprocess.decode(rows)[0])
    served = again.from_request([{"audio": one} for one in rows["audio"]])
    assert set(served) == {"spectrogram"}
    np.testing.assert_array_equal(served["spectrogram"], trained["spectrogram"])
    with pytest.raises(DataError, match="input 0, audio: a sound must be an encoded file's bytes, not str"):
        preprocess.from_request([{"audio": "x"}])


def test_a_bundle_of_before_sounds_still_opens() -> None:
    state = Preprocess(classes=("a",)).to_json()
    del state["audio"]
    assert Preprocess.from_json(state).audio is None


def test_data_without_sounds() -> None:
    with pytest.raises(DataError, match=r"data\.audio is set and the data has no audio column; it has label"):
        fit_audio(AudioSpec(seconds=1), ResidentTable({"label": np.zeros(1, np.int64)}))
    with pytest.raises(DataError, match="none of the training split's sounds"):
        fit_audio(AudioSpec(seconds=1), ResidentTable(pack({"audio": [b"x", b"y"]})))


AUGMENT = (
    {"name": "volume"},
    {"name": "time-shift"},
    {"name": "time-mask", "max_width": 8},
    {"name": "frequency-mask", "max_width": 6},
)


def builder(home: Path, micro_size: int, augment: tuple[dict[str, object], ...]) -> AtomBuilder:
    data = DataSpec.model_validate({"source": "asterisk", "audio": {**ASKED, "seconds": 1}, "augment": augment})
    source = open_source(data, home)
    pipeline = Pipeline(tuple(build_augmentations(AugmentSpec.model_validate(one) for one in augment)))
    table = source.table("train")
    plan, preprocess = Plan(3, Shuffled(len(table)), 16, micro_size), build_preprocess(data, source)
    return AtomBuilder(plan, table, preprocess, Quarantine(len(table), 0.01), pipeline)


def test_atoms_of_any_size_make_one_global_batch(data_home: Path) -> None:
    """Sounds before, masks after they have become pictures: all by each sample's own key."""
    whole, bare = builder(data_home, 16, AUGMENT).build(2, 0), builder(data_home, 16, ()).build(2, 0)
    assert whole["spectrogram"].shape == (16, 1, 24, 81)
    assert "audio" not in whole
    parts = [builder(data_home, 4, AUGMENT).build(2, atom) for atom in range(4)]
    for key, value in whole.items():
        np.testing.assert_array_equal(np.concatenate([one[key] for one in parts]), value)
    masked = builder(data_home, 16, AUGMENT[2:]).build(2, 0)["spectrogram"]
    changed = (masked != bare["spectrogram"])[:, 0]
    assert 0.02 < changed.mean() < 0.4
    bands = changed.all(axis=2, keepdims=True) | changed.all(axis=1, keepdims=True)
    np.testing.assert_array_equal(changed, np.broadcast_to(bands, changed.shape))
