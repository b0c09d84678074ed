"""A spec against what is known of its data before any of it is read: the catalog's classes, sizes and splits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dlsvc import registry
from dlsvc.augment import registry as augmentations
from dlsvc.data.catalog import CatalogEntry, entries
from dlsvc.data.catalog.facts import LEFT_OUT
from dlsvc.errors import did_you_mean
from dlsvc.spec.places import is_place
from dlsvc.spec.resolve import known_model, known_task, signature
from dlsvc.spec.schema import TrainSpec
from dlsvc.spec.text_facts import texts_fit

Found = Iterator[tuple[str, str]]

_OR_PATH = " (a path has a / in it, such as ./"
# The batch keys that each kind of data can give.
_KEYS = {
    "image": {"image", "label"},
    "tabular": {"features", "label"},
    "image-text": {"image", "label", "tokens", "attention_mask"},
    "segmentation": {"image", "mask"},
    "text": {"tokens", "attention_mask", "label"},
    "translation": {"tokens", "attention_mask", "target_tokens", "target_attention_mask"},
    "audio": {"spectrogram", "label"},
    "video": {"video", "label"},
    "series": {"series", "label"},
    "conversation": {"image", "tokens", "attention_mask", "answer_mask"},
    "vqa": {"image", "label", "tokens", "attention_mask", "answer_mask", "target_tokens", "target_attention_mask"},
}


# The augmentations that each kind of data can have, by their modality.
_AUGMENTED = {
    "image": {"image", "mix"},
    "image-text": {"image", "text"},
    "segmentation": {"image"},
    "text": {"text"},
    "translation": {"text"},
    # Several images of one conversation alike.
    "conversation": {"image"},
    "vqa": {"image", "text"},
    "audio": {"audio", "spectrogram"},
    # Each frame as an image, all of a film's alike.
    "video": {"image"},
}


def source_exists(spec: TrainSpec) -> Found:
    source, known = spec.data.source, entries()
    if source not in known and not is_place(source):
        hint = did_you_mean(source, known)
        yield (
            "data.source",
            f"no data set is called {source!r}{hint}{_OR_PATH}{source})",
        )


def format_is_for_paths(spec: TrainSpec) -> Found:
    if spec.data.format != "auto" and _entry(spec):
        yield "data.format", f"{spec.data.source} is of the catalog, which knows its format; leave it at auto"


def split_exists(spec: TrainSpec) -> Found:
    entry, split = _entry(spec), spec.evaluate.split
    if entry and split not in entry.counts and not (spec.data.limit and split == LEFT_OUT):
        yield "evaluate.split", f"{entry.name} has no split {split!r}{did_you_mean(split, entry.counts)}"


def positive_is_a_class(spec: TrainSpec) -> Found:
    entry, positive = _entry(spec), spec.data.positive
    if entry and positive is not None and positive not in entry.classes:
        yield "data.positive", f"{entry.name} has no class {positive!r}{did_you_mean(positive, entry.classes)}"


# The sections that make a column into what models read; without one the column isn't read.
SECTIONS = {
    "spectrogram": "audio: {seconds: 2}",
    "tokens": "text: {tokenizer: word}",
    "target_tokens": "text: {tokenizer: bpe, target: target_text}",
    "answer_mask": "text: {chat: true, column: question, target: answer}",
}


def data_has_what_the_task_reads(spec: TrainSpec) -> Found:
    entry, task = _entry(spec), known_task(spec)
    if entry is None or task is None:
        return
    given = _KEYS.get(entry.modality, set()) - (set() if entry.classes else {"label"})
    given |= _KEYS["text"] if "label" in given and spec.data.text and spec.data.text.prompt else set()
    lacks = [key for key in task.options.get("reads", ()) if given and not given & set(key.split("|"))]
    if lacks:
        hint = " (data.text.prompt makes texts of classes)" if lacks == ["tokens"] and "label" in given else ""
        has = ", ".join(sorted(given))
        yield "data.source", f"task {task.name} reads {', '.join(lacks)}; {entry.name} has {has}{hint}"
    for key in task.options.get("reads", ()):
        usable = given & set(key.split("|"))
        text = spec.data.text
        asked = {
            "spectrogram": spec.data.audio,
            "tokens": text,
            "target_tokens": text and text.target,
            "answer_mask": text and (text.chat or None),
        }
        if usable and all(one in SECTIONS and asked[one] is None for one in usable):
            sections = " or ".join(f"`{SECTIONS[one]}`" for one in sorted(usable))
            yield "data", f"task {task.name} reads {key} here, which needs a section in data, such as {sections}"


# The kinds of data that each section, beside what makes texts of classes, says how to read.
_READ_AS = {
    "image": {"image", "image-text", "segmentation", "conversation", "vqa"},
    "text": {"text", "translation", "image-text", "conversation", "vqa"},
    "audio": {"audio"},
    "video": {"video"},
}


def no_section_is_ignored(spec: TrainSpec) -> Found:
    """Of a catalog's data set is known what it holds; a section for something else would be read by nobody."""
    entry, text = _entry(spec), spec.data.text
    if entry is None:
        return
    for name, kinds in _READ_AS.items():
        makes_texts = name == "text" and text is not None and text.prompt is not None
        if getattr(spec.data, name) is not None and entry.modality not in kinds and not makes_texts:
            yield f"data.{name}", f"nothing would read it: {entry.name} is {entry.modality}; leave it out"
    if spec.data.columns != type(spec.data.columns)():
        yield "data.columns", f"names columns of data of your own; {entry.name} is of the catalog, which knows them"
    if not spec.data.standardise and entry.modality not in ("tabular", "series"):
        yield "data.standardise", f"is of numbers in columns; {entry.name} is {entry.modality}"


def prompts_are_for_classes(spec: TrainSpec) -> Found:
    entry, text = _entry(spec), spec.data.text
    if entry is None or text is None or text.prompt is None:
        return
    if "tokens" in _KEYS.get(entry.modality, set()):
        yield "data.text.prompt", f"{entry.name} has texts of its own, which it would replace; leave it out"
    elif not entry.classes:
        yield "data.text.prompt", f"{entry.name} has no classes to name"


def limit_is_there(spec: TrainSpec) -> Found:
    entry, limit = _entry(spec), spec.data.limit
    if entry and limit is not None and limit > entry.counts.get("train", limit):
        yield "data.limit", f"is {limit}, and {entry.name} has {entry.counts['train']} training samples"


def augmentations_fit(spec: TrainSpec) -> Found:
    entry, known, task = _entry(spec), augmentations.entries(), known_task(spec)
    for place, asked in enumerate(spec.data.augment):
        found = known.get(asked.name)
        if entry and found and found.modality not in _AUGMENTED.get(entry.modality, set()):
            yield (
                f"data.augment.{place}.name",
                f"{asked.name} is for {found.modality} data; {entry.name} is {entry.modality}",
            )
        if found and found.modality == "text" and spec.data.text and spec.data.text.chat:
            yield f"data.augment.{place}.name", f"{asked.name} changes texts, and data.text.chat makes turns of them"
        if found and found.modality == "mix" and task and not task.options.get("mixes"):
            able = ", ".join(name for name, entry in registry.entries("task").items() if entry.options.get("mixes"))
            message = f"{asked.name} mixes labels, of which task {task.name} reads none; {able} does"
            yield f"data.augment.{place}.name", message


def images_are_encoded_once(spec: TrainSpec) -> Found:
    """Only where something frozen reads them, and nothing else has to see them again and again."""
    task, known = known_task(spec), augmentations.entries()
    if not spec.data.encode_once or task is None:
        return
    if not task.options.get("encodes_once"):
        able = sorted(name for name, entry in registry.entries("task").items() if entry.options.get("encodes_once"))
        yield "data.encode_once", f"task {task.name} has no frozen encoder of images; {', '.join(able)} has"
    for place, asked in enumerate(spec.data.augment):
        found = known.get(asked.name)
        if found and found.modality != "text":
            message = f"{asked.name} would change images that encode_once has encoded before; leave one of them out"
            yield f"data.augment.{place}.name", message


def warmup_ends(spec: TrainSpec) -> Found:
    """The warm-up must end before the run does, where its length is known."""
    entry, steps = _entry(spec), spec.budget.steps
    if steps is None and entry and spec.budget.epochs:
        samples = spec.data.limit or entry.counts["train"]
        steps = -(-spec.budget.epochs * samples // spec.batch.global_size)
    sections = {"optim": spec.optim, **{f"optim.phases.{name}": phase for name, phase in spec.optim.phases.items()}}
    for path, section in sections.items():
        warmup = section.schedule.warmup_steps
        inherited = path != "optim" and section.schedule == spec.optim.schedule
        if steps is not None and warmup and warmup >= steps and not inherited:
            yield (
                f"{path}.schedule.warmup_steps",
                f"{warmup} steps of warm-up don't end before the run, which has {steps} steps",
            )


def model_fits_the_data(spec: TrainSpec) -> Found:
    """Numbers that the model's arguments and the data both state must agree. A field of the spec beats the catalog."""
    entry, model, task = _entry(spec), known_model(spec), known_task(spec)
    if model is None or task is None:
        return
    args = signature(model).complete(spec.model.args)
    sizes = _image_facts(spec, entry)
    yield from _sound_fits(args, spec)
    yield from _motion_fits(args, spec, entry)
    if counts_classes(task, args) and (classes := _num_classes(spec, entry)):
        yield from _differs(args, "num_classes", *classes)
    for name, (value, where) in sizes.items():
        yield from _differs(args, name, value, where)
        yield from _differs(args.get("vision", {}), name, value, where, "model.args.vision")
    yield from _width_fits(args, sizes, entry)
    if spec.data.text is not None:
        yield from texts_fit(args, spec.data.text, model, task)


def counts_classes(task: registry.Entry, args: Mapping[str, Any]) -> bool:
    """Whether the model's `num_classes` is of the data's: it tells them apart, or is told which to make."""
    told = task.options.get("makes_samples") and args.get("num_classes")
    # What couples samples only compares their labels.
    tells = not task.options.get("couples_samples") and {"label", "mask"} & set(task.options.get("reads", ()))
    return bool(told or tells)


def _num_classes(spec: TrainSpec, entry: CatalogEntry | None) -> tuple[int, str] | None:
    if spec.data.positive is not None:
        return 2, "data.positive makes 2 classes"
    return (entry.num_classes, f"{entry.name} has {entry.num_classes} classes") if entry else None


def _image_facts(spec: TrainSpec, entry: CatalogEntry | None) -> dict[str, tuple[int, str]]:
    """What images will be: an argument's name, its value, and who says so."""
    image = spec.data.image
    if image is not None:
        return {
            "image_size": (image.size, f"data.image.size is {image.size}"),
            "in_channels": (image.channels, f"data.image.channels is {image.channels}"),
        }
    if entry is None or entry.image_size is None or entry.channels is None or entry.modality == "video":
        return {}
    return {
        "image_size": (
            entry.image_size,
            f"{entry.name} has images of {entry.image_size} pixels, and data.image is null",
        ),
        "in_channels": (entry.channels, f"{entry.name} has {entry.channels} channels, and data.image is null"),
    }


def _differs(args: Any, name: str, value: int, where: str, path: str = "model.args") -> Found:
    if isinstance(args, Mapping) and isinstance(args.get(name), int) and args[name] != value:
        yield f"{path}.{name}", f"is {args[name]}, and {where}"


def _width_fits(args: Mapping[str, Any], sizes: Mapping[str, tuple[int, str]], entry: CatalogEntry | None) -> Found:
    """The inputs of a model that flattens: the columns of a table, or every value of an image."""
    width = len(entry.features) if entry and entry.modality == "tabular" else 0
    where = f"{entry.name} has {width} columns" if entry else ""
    if sizes and not width:
        size, channels = sizes["image_size"][0], sizes["in_channels"][0]
        width, where = (
            size * size * channels,
            f"images of {size} x {size} x {channels} have {size * size * channels} values",
        )
    for name in ("in_features", "num_features"):
        if width:
            yield from _differs(args, name, width, where)


def _sound_fits(args: Mapping[str, Any], spec: TrainSpec) -> Found:
    audio = spec.data.audio
    if audio is None:
        return
    seconds = f"data.audio makes {audio.num_steps} steps, one and one more a hop of {audio.hop} samples"
    if audio.features == "kaldi-fbank":
        seconds += f" after the first window of {audio.window}"
    yield from _differs(args, "num_bins", audio.num_bins, f"data.audio makes {audio.num_bins} bins")
    yield from _differs(args, "num_steps", audio.num_steps, seconds)


def _motion_fits(args: Mapping[str, Any], spec: TrainSpec, entry: CatalogEntry | None) -> Found:
    """The length and the channels of films and of series."""
    film, facts = spec.data.video, dict[str, int | None]()
    if film is not None:
        facts = {"num_frames": film.frames, "image_size": film.size, "in_channels": film.channels}
        where = "data.video makes"
    elif entry and entry.modality == "video":
        facts = {"num_frames": entry.length, "image_size": entry.image_size, "in_channels": entry.channels}
        where = f"{entry.name}, data.video being null, has"
    elif entry and entry.modality == "series":
        facts, where = {"num_steps": entry.length, "in_channels": len(entry.features)}, f"{entry.name} has"
    else:
        return
    for name, value in facts.items():
        if value is not None:
            yield from _differs(args, name, value, f"{where} {value}")


def _entry(spec: TrainSpec) -> CatalogEntry | None:
    return entries().get(spec.data.source)
