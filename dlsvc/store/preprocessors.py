"""What the files of other libraries say of how sounds and images become a model's input, in and out: transformers'
preprocessor_config.json, and of images timm's config.json.
"""

from __future__ import annotations

import json
from pathlib import Path

from dlsvc.data import kaldi
from dlsvc.data.audio_input import AudioInput, standardised
from dlsvc.data.image_input import ImageInput
from dlsvc.errors import DataError
from dlsvc.store.foreign_files import CONFIG, blaming, read_object
from dlsvc.store.widths import Args

PREPROCESSOR = "preprocessor_config.json"

_EXTRACTOR = "ASTFeatureExtractor"
# Levels of a byte as numbers up to one, to within what a file's digits hold.
_LEVEL, _DIGITS = 1 / 255, 1e-6
# How Pillow counts bilinear interpolation.
_BILINEAR = 2
# Kaldi's window and hop, in seconds.
_WINDOW_S, _HOP_S = 0.025, 0.010


def read_sounds(source: Path, args: Args) -> AudioInput:
    """How an AST directory's sounds are made into `num_bins` by `num_steps` filter banks; what it doesn't say is
    AudioSet's. Raises DataError when the file and the model contradict each other.
    """
    file = source / PREPROCESSOR
    with blaming(file):
        return _sounds(read_object(file) if file.is_file() else {}, file, args)


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
    _write(target / PREPROCESSOR, document)


def _samples(rate: int) -> tuple[int, int]:
    return int(rate * _WINDOW_S), int(rate * _HOP_S)


def read_images(source: Path, size: int, channels: int) -> ImageInput:
    """Images of `size`, standardised as a directory says, or from [-1, 1] where it says nothing. How it cuts and
    enlarges them is not taken over. Raises DataError for what can't be.
    """
    file = source / PREPROCESSOR
    if file.is_file():
        with blaming(file):
            return _images(read_object(file), file, size, channels)
    file = source / CONFIG
    with blaming(file):
        known = read_object(file).get("pretrained_cfg") or {}
        return _images({f"image_{name}": known.get(name) for name in ("mean", "std")}, file, size, channels)


def _images(given: Args, file: Path, size: int, channels: int) -> ImageInput:
    factor = given.get("rescale_factor", _LEVEL)
    if not given.get("do_rescale", True) or abs(factor - _LEVEL) > _DIGITS:
        raise DataError(f"{file} says that levels are not divided by 255; only that can be imported")
    if not given.get("do_normalize", True):
        return ImageInput(size, channels, (0.0,) * channels, (1.0,) * channels)
    half = (0.5,) * channels
    mean, std = (tuple(map(float, given.get(name) or half)) for name in ("image_mean", "image_std"))
    if len(mean) != channels or len(std) != channels or min(std) <= 0:
        raise DataError(f"{file} says mean {mean} and deviation {std}; an image of the model has {channels} channels")
    return ImageInput(size, channels, mean, std)


def write_images(target: Path, library: str, image: ImageInput) -> None:
    """The same of a model here, where the library says it."""
    if library == "timm":
        document = read_object(target / CONFIG)
        document["pretrained_cfg"] |= {"mean": image.mean, "std": image.std}
        return _write(target / CONFIG, document)
    _write(
        target / PREPROCESSOR,
        {
            "image_processor_type": "ViTImageProcessor",
            "do_resize": True,
            "size": {"height": image.size, "width": image.size},
            "resample": _BILINEAR,
            "do_rescale": True,
            "rescale_factor": _LEVEL,
            "do_normalize": True,
            "image_mean": image.mean,
            "image_std": image.std,
        },
    )
    return None


def _write(file: Path, document: Args) -> None:
    file.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")
