"""Whether model and task go with the data as it turned out: its classes, its tokens, what its images are made into.

What a spec says by itself is checked when it is read; here is what only the pulled and fitted data knows, before
anything starts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from dlsvc.data.atom import Preprocessing, Rows
from dlsvc.data.preprocess import Preprocess
from dlsvc.registry import Entry
from dlsvc.spec.facts import SECTIONS, counts_classes
from dlsvc.spec.resolve import complete, task_entry
from dlsvc.spec.schema import TrainSpec
from dlsvc.store.bundle import build_task

Found = Iterator[tuple[str, str]]

# Parts of a model that read texts of their own.
_READERS = ("text", "language")
# The field that says how a batch's key is made; the others are columns of the data.
_FIELDS = {"spectrogram": "audio", "tokens": "text", "target_tokens": "text.target", "answer_mask": "text.chat"}


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


def unread(spec: TrainSpec, data: Preprocess, table: Rows) -> Found:
    """The first thing that the task reads and the data, as the spec has it read, doesn't give."""
    task, given = task_entry(spec), batch_keys(table, data)
    for keys in lacking(task, given)[:1]:
        field = _FIELDS.get(keys[0], f"columns.{keys[0]}")
        needs = " or ".join(f"`{SECTIONS.get(key, f'columns: {{{key}: ...}}')}`" for key in keys)
        has = ", ".join(sorted(given)) or "nothing"
        message = f"task {task.name} reads {' or '.join(keys)}, and {data.source} gives {has}; data needs {needs}"
        yield f"data.{field}" if len(keys) == 1 else "data", message


def batch_keys(table: Rows, data: Preprocessing) -> Collection[str]:
    """What a batch of a table has. One row tells, even one that can't be decoded: zeros stand in its place."""
    samples, _ = data.decode(table.rows(np.zeros(1, np.int64)))
    return data.finish(samples).keys()


def lacking(task: Entry, given: Collection[str]) -> list[list[str]]:
    """Of what a task reads, the keys any of which would do and none of which is given."""
    reads = [read.split("|") for read in task.options.get("reads", ())]
    return [keys for keys in reads if not set(keys) & set(given)]


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
