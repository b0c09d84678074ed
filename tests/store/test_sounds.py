"""An AST directory: its extractor's settings are read and written, and what it hears is evaluated as it is served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from dlsvc.cli import main
from dlsvc.data.kaldi import AUDIOSET_MEAN, AUDIOSET_STD
from dlsvc.data.preprocess import Preprocess
from dlsvc.data.source import open_source
from dlsvc.errors import DataError
from dlsvc.spec.data_sections import DataSpec
from dlsvc.spec.sections import EvaluateSpec
from dlsvc.store.exchange import export_bundle, import_bundle
from dlsvc.store.models import ModelStore
from dlsvc.store.preprocessors import PREPROCESSOR
from dlsvc.train.evaluate import evaluate_on
from serving.predictor import served
from tests.data.test_audio_input import wav
from tests.data.test_kaldi import by_definition, noise
from tests.store.ast_directory import LANGUAGES, write_ast

SAYS = {"feature_extractor_type": "ASTFeatureExtractor", "sampling_rate": 16000, "num_mel_bins": 32, "max_length": 40}


def test_the_commands(home: Path, tmp_path: Path) -> None:
    """`dlsvc models import`, `dlsvc predict --audio`; the spectrogram is the definition's."""
    write_ast(tmp_path / "ast", **SAYS, mean=-6.5, std=5.0)
    wave = noise(1, 3000)
    (tmp_path / "f.wav").write_bytes(wav(wave, 16000))
    told = CliRunner().invoke(main, ["models", "import", str(tmp_path / "ast"), "test-heard", "--json"])
    assert told.exit_code == 0, told.output
    model = json.loads(told.stdout)["model"]
    found = CliRunner().invoke(main, ["predict", model, "--audio", str(tmp_path / "f.wav"), "--json"])
    assert found.exit_code == 0, found.output
    heard = {row["label"]: row["score"] for row in json.loads(found.stdout.splitlines()[-1])["answer"]}

    bank = np.zeros((40, 32))
    bank[:17] = by_definition(wave, 16000, 400, 160, 32)
    spectrogram = torch.from_numpy(((bank.T + 6.5) / 10)[None, None]).float()
    with torch.inference_mode():
        expected = ModelStore(home).open(model).model()(spectrogram).softmax(1)[0]
    assert heard == pytest.approx(dict(zip(LANGUAGES, expected.tolist(), strict=True)), abs=1e-5)


def test_evaluated_as_it_is_served(home: Path, tmp_path: Path) -> None:
    store = ModelStore(home)
    bundle = store.open(import_bundle(store, write_ast(tmp_path / "ast", **SAYS), "test-heard"))
    table = open_source(DataSpec(source="asterisk", limit=40), home).table("train")
    rows = table.rows(np.arange(len(table)))
    scores = [row["scores"] for row in served(bundle).predict([{"audio": bytes(sound)} for sound in rows["audio"]])]
    right = float(np.mean(np.argmax(scores, axis=1) == rows["label"]))
    preprocess = Preprocess.from_json(bundle.preprocess)
    found = evaluate_on(table, preprocess, bundle.task(), bundle.model(), EvaluateSpec(), home)
    assert found["accuracy"] == pytest.approx(right)
    assert 0 < right < 1


def test_out_again_as_it_came_in(home: Path, tmp_path: Path) -> None:
    store = ModelStore(home)
    bundle = store.open(import_bundle(store, write_ast(tmp_path / "ast", **SAYS, mean=-6.5, std=5.0), "test-heard"))
    export_bundle(bundle, tmp_path / "out", "transformers")
    written = json.loads((tmp_path / "out" / PREPROCESSOR).read_text())
    assert written["feature_extractor_type"] == "ASTFeatureExtractor"
    assert (written["mean"], written["std"], written["do_normalize"]) == (-6.5, 5.0, True)
    assert (written["sampling_rate"], written["num_mel_bins"], written["max_length"]) == (16000, 32, 40)
    again = store.open(import_bundle(store, tmp_path / "out", "test-heard-again"))
    assert again.preprocess == bundle.preprocess


def test_other_settings_are_another_version(home: Path, tmp_path: Path) -> None:
    store = ModelStore(home)
    one = import_bundle(store, write_ast(tmp_path / "ast"), "test-heard-anew")
    audio = Preprocess.from_json(store.open(one).preprocess).audio
    assert audio is not None
    assert (audio.mean[0], audio.std[0]) == (AUDIOSET_MEAN, 2 * AUDIOSET_STD)
    (tmp_path / "ast" / PREPROCESSOR).write_text(json.dumps({"do_normalize": False}))
    other = import_bundle(store, tmp_path / "ast", "test-heard-anew")
    assert import_bundle(store, tmp_path / "ast", "test-heard-anew") == other != one
    audio = Preprocess.from_json(store.open(other).preprocess).audio
    assert audio is not None
    assert (audio.mean[0], audio.std[0]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("says", "message"),
    [
        ({"num_mel_bins": 128}, "says num_mel_bins 128, and config.json 32"),
        ({"max_length": 1024}, "says max_length 1024, and config.json 40"),
        ({"feature_extractor_type": "WhisperFeatureExtractor"}, "only 'ASTFeatureExtractor' can be imported"),
        ({"sampling_rate": "fast"}, r"preprocessor_config\.json can't be used: invalid literal"),
        ({"mean": None}, r"preprocessor_config\.json can't be used: float\(\) argument"),
        ({"padding_value": -1.0}, r"says padding_value -1\.0; only 0 can be imported"),
    ],
)
def test_what_contradicts_the_model_is_refused(says: dict[str, Any], message: str, home: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        import_bundle(ModelStore(home), write_ast(tmp_path / "ast", **says), "test-heard")


def test_a_broken_file_is_named(home: Path, tmp_path: Path) -> None:
    (write_ast(tmp_path / "ast") / PREPROCESSOR).write_text("{")
    with pytest.raises(DataError, match=rf"{PREPROCESSOR} is not JSON"):
        import_bundle(ModelStore(home), tmp_path / "ast", "test-heard")
