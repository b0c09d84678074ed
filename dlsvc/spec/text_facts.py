"""How a spec has texts read, against the task and the model: tokenizers, lengths, and places for images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dlsvc.registry import Entry
from dlsvc.spec.data_sections import TextSpec
from dlsvc.spec.resolve import known_task
from dlsvc.spec.schema import TrainSpec

Found = Iterator[tuple[str, str]]


def tokens_are_the_tasks(spec: TrainSpec) -> Found:
    """A task may count on how one tokenizer numbers its tokens."""
    task, text = known_task(spec), spec.data.text
    needed = task.options.get("tokenizer") if task else None
    if task is None or text is None or needed is None:
        return
    message = f"task {task.name} counts on how tokenizer {needed} numbers its tokens"
    if text.vocabulary is not None:
        yield "data.text.vocabulary", f"{message}, which a published vocabulary needn't; leave it out"
    elif text.tokenizer != needed:
        yield "data.text.tokenizer", f"is {text.tokenizer}, and {message}"


def texts_fit(args: Mapping[str, Any], text: TextSpec, model: Entry, task: Entry) -> Found:
    """A model of these (complete) arguments has room for texts and for the images in them."""
    yield from _images_have_places(args, text, model, task)
    part = next((name for name in ("text", "language") if name in args), None)
    reader, path = (args[part], f"model.args.{part}") if part else (args, "model.args")
    if not isinstance(reader, Mapping):
        return
    # A published vocabulary has the size that it has.
    if text.vocabulary is None:
        yield from _has_room(reader, "vocab_size", text.vocab_size, path, "data.text.vocab_size")
    yield from _lengths_fit(args, reader, text, path)


def _images_have_places(args: Mapping[str, Any], text: TextSpec, model: Entry, task: Entry) -> Found:
    """An image's places in a conversation are its patches; who reads no images between words has no use for any."""
    vision, asked = args.get("vision"), text.image_tokens
    if not text.chat:
        return
    if not isinstance(vision, Mapping) or "answer_mask" not in task.options.get("reads", ()):
        if asked:
            message = f"model {model.name} of task {task.name} reads no images between words; leave it out"
            yield "data.text.image_tokens", f"is {asked}, and {message}"
    elif vision["patch_size"] > 0 and (patches := (vision["image_size"] // vision["patch_size"]) ** 2) != asked:
        yield "data.text.image_tokens", f"is {asked}, and the model makes {patches} patches of an image"


def _lengths_fit(args: Mapping[str, Any], reader: Mapping[str, Any], text: TextSpec, path: str) -> Found:
    """Queries that tell a language model of an image take places of its text; a target is read like a text."""
    queries = args["qformer"]["num_queries"] if "qformer" in args and "language" in args else 0
    what = "data.text.max_seq_len" + (f" and {queries} queries" if queries else "")
    yield from _has_room(reader, "max_seq_len", text.max_seq_len + queries, path, what)
    if text.target_len is not None:
        yield from _has_room(reader, "max_seq_len", text.target_len, path, "data.text.target_len")


def _has_room(reader: Mapping[str, Any], name: str, least: int, path: str, what: str) -> Found:
    """There may be room to spare, but not too little."""
    if isinstance(reader.get(name), int) and reader[name] < least:
        yield f"{path}.{name}", f"is {reader[name]}, less than {what}, {least}"
