"""What transformers' preprocessor_config.json says of how sounds become a model's input, in and out."""

from __future__ import annotations

import json
from pathlib import Path

from dlsvc.data import kaldi
from dlsvc.data.audio_input import AudioInput, standardised
from dlsvc.errors import DataError
from dlsvc.store.foreign_files import blaming, read_object
from dlsvc.store.widths import Args

PREPROCESSOR = "preprocessor_config.json"

_EXTRACTOR = "ASTFeatureExtractor"
# Kaldi's window and hop, in seconds.
_WINDOW_S, _HOP_S = 0.025, 0.010


def read_sounds(source: Path, args: Args) -> AudioInput:
    """How an AST directory's sounds are made into `num_bins` by `num_steps` filter banks; what it doesn't say is
    AudioSet's. Raises DataError when the file and the model contradict each other.
    """
    file = source / PREPROCESSOR
    given = read_object(file) if file.is_file() else {}
    with blaming(file):
        return _sounds(given, file, args)


def _sounds(given: Args, file: Path, args: Args) -> AudioInput:
    for name, own in (("feature_extractor_type", _EXTRACTOR), ("feature_size", 1), ("padding_value", 0)):
        if given.get(name, own) != own:
            raise DataError(f"{file} says {name} {given[name]!r}; only {own!r} can be imported")
    for name, own in (("num_mel_bins", "num_bins"), ("max_length", "num_steps")):
        if given.get(name, args[own]) != args[own]:
            raise DataError(f"{file} says {name} {given[name]}, and config.json {args[own]}")
    rate = int(given.get("sampling_rate", 16000))
    window, hop = _samples(rate)
    num_samples = window + hop * (args["num_steps"] - 1)
    part = AudioInput(rate, num_samples, kaldi.FEATURES, args["num_bins"], coefficients=0, window=window, hop=hop)
    if not given.get("do_normalize", True):
        return standardised(part, 0.0, 1.0)
    mean, std = given.get("mean", kaldi.AUDIOSET_MEAN), given.get("std", kaldi.AUDIOSET_STD)
    return standardised(part, float(mean), 2 * float(std))


def write_sounds(target: Path, audio: AudioInput) -> None:
    """The same of a model here, where transformers' extractor can say it: other features have no file."""
    if audio.features != kaldi.FEATURES or (audio.window, audio.hop) != _samples(audio.sample_rate):
        return
    document = {
        "feature_extractor_type": _EXTRACTOR,
        "feature_size": 1,
        "sampling_rate": audio.sample_rate,
        "num_mel_bins": audio.bins,
        "max_length": audio.shape[1],
        "padding_side": "right",
        "padding_value": 0.0,
        "do_normalize": True,
        "mean": audio.mean[0],
        "std": audio.std[0] / 2,
        "return_attention_mask": False,
    }
    (target / PREPROCESSOR).write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _samples(rate: int) -> tuple[int, int]:
    return int(rate * _WINDOW_S), int(rate * _HOP_S)
