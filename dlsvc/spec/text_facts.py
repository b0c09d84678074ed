"""How a spec has texts read, against the task."""

from __future__ import annotations

from collections.abc import Iterator

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
