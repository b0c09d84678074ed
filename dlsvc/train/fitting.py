"""Whether model and task go with the data as it turned out: its classes, its tokens, what its images are made into.

What a spec says by itself is checked when it is read; here is what only the pulled and fitted data knows, before
anything starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dlsvc.data.preprocess import Preprocess
from dlsvc.spec.facts import counts_classes
from dlsvc.spec.resolve import complete, task_entry
from dlsvc.spec.schema import TrainSpec
from dlsvc.store.bundle import build_task

Found = Iterator[tuple[str, str]]

# Parts of a model that read texts of their own.
_READERS = ("text", "language")


def misfits(spec: TrainSpec, data: Preprocess) -> Found:
    """Each field that the data contradicts, and what would be right."""
    spec = complete(spec)
    args, task = spec.model.args, build_task(spec.task.model_dump())
    if spec.batch.micro_size != "auto" and spec.batch.micro_size < task.least_atom:
        message = f"task {spec.task.name} draws from a sample's own atom, which must hold at least {task.least_atom}"
        yield "batch.micro_size", f"is {spec.batch.micro_size}; {message}"
    # Masks of the user's own may name no classes.
    if counts_classes(task_entry(spec), args) and (data.classes or "mask" not in task.reads):
        yield from _classes_fit(args, data)
    yield from _tokens_fit(args, data, "model.args")
    for part in _READERS:
        if isinstance(args.get(part), Mapping):
            yield from _tokens_fit(args[part], data, f"model.args.{part}")
    yield from task.misfits(data, args)


def _classes_fit(args: Mapping[str, Any], data: Preprocess) -> Found:
    asked, found = args.get("num_classes"), len(data.classes)
    if isinstance(asked, int) and asked != found:
        yield "model.args.num_classes", f"is {asked}, and {data.source} has {found or 'no'} classes"


def _tokens_fit(args: Mapping[str, Any], data: Preprocess, path: str) -> Found:
    """A model may have room to spare for tokens, but must know the ones that begin, end and fill up a text."""
    if data.text is None or "vocab_size" not in args:
        return
    tokenizer = data.text.tokenizer
    special = tokenizer.special
    if args["vocab_size"] < tokenizer.vocab_size:
        yield f"{path}.vocab_size", f"is {args['vocab_size']}, and the vocabulary has {tokenizer.vocab_size} tokens"
    for name, number in {"bos_id": special.bos, "eos_id": special.eos, "pad_id": special.pad}.items():
        if args.get(name, number) != number:
            yield f"{path}.{name}", f"is {args[name]}, and of this vocabulary it is {number}"
