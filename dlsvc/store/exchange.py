"""Published models out to other libraries' directories, and their directories in as published models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor

from dlsvc import __version__
from dlsvc.data import convert
from dlsvc.data.catalog import CatalogEntry
from dlsvc.data.chat_input import ChatInput
from dlsvc.data.image_input import ImageInput
from dlsvc.data.preprocess import Preprocess
from dlsvc.data.series_input import SeriesInput
from dlsvc.data.text_input import TextInput
from dlsvc.data.tokenizer import Tokenizer
from dlsvc.data.video_input import VideoInput
from dlsvc.data.vocabulary import Special
from dlsvc.data.vocabulary_files import FILES, find_vocabulary, read_vocabulary
from dlsvc.errors import DataError, UsageError
from dlsvc.registry import resolve
from dlsvc.spec.resolve import signature
from dlsvc.store.bundle import CONFIG, LINEAGE, METRICS, PREPROCESS, Bundle, build_model
from dlsvc.store.checkpoint import weights_sha256
from dlsvc.store.foreign_files import blaming
from dlsvc.store.interchange import Imported, export_directory, import_directory
from dlsvc.store.keymaps import import_weights
from dlsvc.store.models import ModelStore, check_model_name
from dlsvc.store.preprocessors import read_images, read_sounds, write_images, write_sounds

# Trained weights of the catalog: the layout that they are in, the model's arguments, the file.
_TRAINED: dict[str, tuple[str, dict[str, Any], str]] = {
    "efficientnet-lite0": ("efficientnet-pytorch/efficientnet", {}, "efficientnet-lite0-57934424.pth"),
    "minilm": ("transformers/bert", {"d_model": 384, "num_layers": 6, "head": False}, "model.safetensors"),
}
# Texts are cut to so many tokens, as the authors of MiniLM's sentence encoder do.
_TEXT_LENGTH = 256


def export_bundle(bundle: Bundle, target: Path, library: str) -> None:
    """Write a published model so that `library` loads it from `target`, with how sounds and images become its input."""
    model = bundle.config["model"]
    args: dict[str, Any] = model["args"]
    preprocess = Preprocess.from_json(bundle.preprocess)
    special = preprocess.text.tokenizer.special if preprocess.text is not None else Special()
    weights = bundle.weights()
    export_directory(
        target, library, model["name"], args=args, weights=weights, classes=bundle.classes, special=special
    )
    if preprocess.audio is not None:
        write_sounds(target, preprocess.audio)
    if preprocess.image is not None and library in ("transformers", "timm"):
        write_images(target, library, preprocess.image)


def import_bundle(store: ModelStore, source: Path, name: str) -> str:
    """Publish the model of a directory; it can be served, exported and started from. Returns `name@version`."""
    check_model_name(name)
    found = import_directory(source)
    _check_sizes(found, source / CONFIG)
    return _publish(store, found, name, origin=source.name, preprocess=_preprocess(source, found))


def import_trained(store: ModelStore, entry: CatalogEntry, home: Path, name: str) -> str:
    """Publish trained weights of the catalog, pulled first. Returns `name@version`."""
    check_model_name(name)
    if entry.name not in _TRAINED:
        raise UsageError(f"no model here takes the weights {entry.name}; there is one for: {', '.join(_TRAINED)}")
    layout, args, file = _TRAINED[entry.name]
    folder = convert.pull(entry, home)
    found = Imported(layout.split("/")[1], args, import_weights(layout, _tensors(folder / file)), ())
    _check_sizes(found, folder / file)
    return _publish(store, found, name, origin=entry.name, preprocess=_trained_preprocess(entry, folder))


def _tensors(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        return dict(load_file(file))
    # weights_only: nothing but tensors is read from the pickle.
    found: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return found


def _trained_preprocess(entry: CatalogEntry, folder: Path) -> Preprocess:
    if entry.image_size is not None and entry.channels is not None:
        return Preprocess(image=ImageInput(entry.image_size, entry.channels, entry.mean, entry.std))
    return Preprocess(text=TextInput(read_vocabulary(folder), _TEXT_LENGTH))


def _check_sizes(found: Imported, file: Path) -> None:
    """Raises DataError, before anything is published, when the arguments that are said in the file make no model, or
    another one than the weights are of. No memory is taken for it.
    """
    _check_types(found, file)
    with blaming(file), torch.device("meta"):
        model = build_model({"name": found.model, "args": found.args})
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in found.weights.items()}
    wrong = [
        f"{name} would be {wanted.get(name, 'left over')} and is {given.get(name, 'missing')}"
        for name in sorted(wanted.keys() | given.keys())
        if wanted.get(name) != given.get(name)
    ]
    if wrong:
        more = f" and {len(wrong) - 2} more" if len(wrong) > 2 else ""
        raise DataError(f"{file} doesn't fit the weights: {'; '.join(wrong[:2])}{more}")


def _check_types(found: Imported, file: Path) -> None:
    try:
        signature(resolve("model", found.model)).complete(found.args)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise DataError(f"{file} can't be used: {name} is {first['input']!r}: {first['msg']}") from error


def _publish(store: ModelStore, found: Imported, name: str, *, origin: str, preprocess: Preprocess) -> str:
    model = {"name": found.model, "args": found.args}
    name_of_task = resolve("model", found.model).options["task"]
    task = {"name": name_of_task, "args": _task_args(name_of_task, preprocess)}
    config = {"schema": 1, "model": model, "task": task, "classes": list(found.classes), "spec": None}
    said = json.dumps([config, preprocess.to_json()], sort_keys=True)
    lineage = {
        "run": f"import of {origin}",
        # The same weights that are told to read otherwise are another version.
        "identity": hashlib.sha256(said.encode()).hexdigest(),
        "weights_sha256": weights_sha256(found.weights),
        "versions": {"dlsvc": __version__},
    }
    documents = {CONFIG: config, PREPROCESS: preprocess.to_json(), METRICS: {}, LINEAGE: lineage}
    return store.publish(name, found.weights, documents)


def _task_args(task: str, preprocess: Preprocess) -> dict[str, Any]:
    """What a task must be told of the vocabulary that came with the weights."""
    asks = {argument.name for argument in resolve("task", task).arguments}
    if preprocess.text is None or "mask_id" not in asks:
        return {}
    return {"mask_id": preprocess.text.tokenizer.special.mask}


def _preprocess(source: Path, found: Imported) -> Preprocess:
    """Series as they are: weights say nothing of what they were trained on. Texts by the vocabulary, and sounds, images
    and films by the preprocessor, that stand beside the weights.
    """
    if found.model == "audio_transformer":
        return Preprocess(audio=read_sounds(source, found.args), classes=found.classes)
    if found.model == "series_transformer":
        names = tuple(f"channel {place}" for place in range(found.args["in_channels"]))
        series = SeriesInput(found.args["num_steps"], names, (0.0,) * len(names), (1.0,) * len(names))
        return Preprocess(series=series, classes=found.classes)
    part = found.args.get("vision", found.args)
    if "image_size" in part:
        size, channels = int(part["image_size"]), int(part.get("in_channels", 3))
        image = read_images(source, size, channels)
        if found.model == "video_transformer":
            video = VideoInput(found.args["num_frames"], size, channels, image.mean, image.std)
            return Preprocess(video=video, classes=found.classes)
        return Preprocess(image=image, text=_beside_images(source, found), classes=found.classes)
    _require_vocabulary(source, found)
    return Preprocess(text=_texts(source, found.args))


def _beside_images(source: Path, found: Imported) -> TextInput | ChatInput | None:
    """How the texts that are read with images become tokens: CLIP does without, LLaVA can't."""
    if found.model == "clip" and find_vocabulary(source) is not None:
        return _texts(source, found.args["text"])
    if found.model == "llava":
        _require_vocabulary(source, found)
        return _conversations(source, found.args["vision"], found.args["language"])
    return None


def _require_vocabulary(source: Path, found: Imported) -> None:
    if find_vocabulary(source) is None:
        raise UsageError(f"{source} has no vocabulary, which a {found.model} needs to read texts: {', '.join(FILES)}")


def _conversations(source: Path, vision: Mapping[str, Any], language: Mapping[str, Any]) -> ChatInput:
    """Conversations in the tokens of a directory's vocabulary, with room for one image."""
    image_tokens = (vision["image_size"] // vision["patch_size"]) ** 2
    length = min(int(language["max_seq_len"]), image_tokens + _TEXT_LENGTH)
    return ChatInput(_tokenizer(source, language), length, "conversation", None, image_tokens)


def _texts(source: Path, args: Mapping[str, Any]) -> TextInput:
    """Texts in the tokens of a directory's vocabulary, for a model of these arguments. Raises DataError when the two
    don't belong together.
    """
    tokenizer = _tokenizer(source, args)
    # CLIP's vector of a text is that of its end.
    end = args.get("eos_id", tokenizer.special.eos)
    if end != tokenizer.special.eos:
        raise DataError(f"{source}: a text ends with token {tokenizer.special.eos}, and by config.json with {end}")
    return TextInput(tokenizer, min(int(args["max_seq_len"]), _TEXT_LENGTH))


def _tokenizer(source: Path, args: Mapping[str, Any]) -> Tokenizer:
    found = read_vocabulary(source)
    if found.vocab_size > args["vocab_size"]:
        raise DataError(f"{source}: the vocabulary has {found.vocab_size} tokens and the model {args['vocab_size']}")
    return found
