"""Kaldi's filter banks against transformers' ASTFeatureExtractor, and an AST directory that hears as it does there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dlsvc.store.exchange import export_bundle, import_bundle
from dlsvc.store.models import ModelStore
from dlsvc.store.preprocessors import read_sounds
from serving.predictor import served
from tests.data.test_audio_input import wav

transformers = pytest.importorskip("transformers", reason="`make test-interop` installs transformers")

# Of 128 bands over 257 frequencies the lowest are empty, at Kaldi's as here.
pytestmark = pytest.mark.filterwarnings("ignore:At least one mel filter:UserWarning")

RATE = 16000
# Standardised, as the model reads them.
TOLERANCE = 1e-4
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
# Shorter than the model's 100 windows, as long, longer, and less than a hop more than one window.
SECONDS = (0.3, 1.015, 2.5, 0.03)


def sounds() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    found = []
    for place, seconds in enumerate(SECONDS):
        time = np.arange(int(RATE * seconds)) / RATE
        tone = 0.3 * np.sin(2 * np.pi * (200 + 900 * place + 500 * time) * time)
        found.append((tone + 0.05 * random.normal(size=len(time)) + 0.02).astype(np.float32))
    found[0][2000:] = 0
    return found


def test_filter_banks_are_those_of_the_extractor() -> None:
    theirs, worst = transformers.ASTFeatureExtractor(max_length=100), 0.0
    ours = read_sounds(Path("nowhere"), {"num_bins": 128, "num_steps": 100})
    for wave in sounds():
        expected = np.asarray(theirs(wave, sampling_rate=RATE)["input_values"])[0].T
        found = ours.spectrograms(ours.decode(wave)[None])[0, 0]
        assert found.shape == expected.shape == (128, 100)
        worst = max(worst, float(np.abs(found - expected).max()))
    print(f"filter banks: {worst:.1e}")
    assert worst <= TOLERANCE


@pytest.mark.parametrize("said", [{}, {"mean": -6.8, "std": 5.5}, {"do_normalize": False}])
@torch.inference_mode()
def test_a_directory_hears_as_transformers_does(said: dict[str, Any], home: Path, tmp_path: Path) -> None:
    """Its configuration, its extractor's and its weights, in and out again."""
    _random(transformers.ASTForAudioClassification).save_pretrained(tmp_path / "theirs")
    transformers.ASTFeatureExtractor(max_length=100, **said).save_pretrained(tmp_path / "theirs")
    store = ModelStore(home)
    bundle = store.open(import_bundle(store, tmp_path / "theirs", "test-heard"))
    export_bundle(bundle, tmp_path / "ours", "transformers")
    found = [row["scores"] for row in served(bundle).predict([{"audio": wav(wave, RATE)} for wave in sounds()])]
    for folder in ("theirs", "ours"):
        extractor = transformers.ASTFeatureExtractor.from_pretrained(tmp_path / folder)
        loaded = transformers.ASTForAudioClassification.from_pretrained(tmp_path / folder).eval()
        inputs = extractor(sounds(), sampling_rate=RATE, return_tensors="pt")
        expected = loaded(**inputs).logits.softmax(1).numpy()
        assert expected.std(axis=0).max() > 1e-3, "the inputs make no difference: nothing is compared"
        np.testing.assert_allclose(np.stack(found), expected, rtol=0, atol=1e-5)


def _random(kind: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.ASTConfig(
        **SMALL, max_length=100, num_mel_bins=128, id2label={0: "bell", 1: "dog", 2: "rain"}, label2id={}
    )
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model
