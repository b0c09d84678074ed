"""Texts written anew by published models, beside those that they come from: back translation (Sennrich, Haddow and
Birch 2016, section 3) by two models that translate, generation by one that goes on with a text.

dlsvc data rewrite reviews ./more-reviews --by english-french --by french-english
dlsvc data rewrite reviews ./more-reviews --by gpt2-reviews --temperature 0.8
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dlsvc.data.progress import Say, silent
from dlsvc.data.source import open_source
from dlsvc.data.table import Table, chunks
from dlsvc.data.text_input import TextInput
from dlsvc.errors import DataError, Refused, UsageError
from dlsvc.published import Published
from dlsvc.spec.data_sections import DataSpec
from dlsvc.store.models import ModelStore

# A language model is given this share of a text's words to go on from.
_BEGINNING = 0.5
_BATCH = 32
# So many rows are read at a time.
_CHUNK = 256
_WRITERS = ("language-modeling", "translation")


def rewrite(
    name: str,
    target: Path,
    models: Sequence[str],
    home: Path,
    *,
    temperature: float | None = None,
    say: Say = silent,
) -> dict[str, Any]:
    """Write a data set's splits as Parquet, the training texts followed by what `models`, one after the other, make of
    each, with its class; the column `origin` says which is which. What comes out as it went in, or empty, is left out,
    and so are texts longer than a model reads. The other splits stay as they are.
    """
    writers = [Published(ModelStore(home).open(reference)) for reference in models]
    for writer in writers:
        _writes_texts(writer)
    source = open_source(DataSpec(source=name), home, say)
    if "text" not in source.table("train").columns:
        raise DataError(f"{name} has no text column; it has {', '.join(source.table('train').columns)}")
    if target.exists() and any(target.iterdir()):
        raise Refused(f"{target} is not empty; choose a new directory")
    target.mkdir(parents=True, exist_ok=True)
    counts: dict[str, int] = {}
    for split in source.splits:
        rows = list(_rows(source.table(split), source.classes))
        if split == "train":
            made = list(_made(rows, writers, temperature, say))
            counts |= {"given": len(rows), "written": len(made)}
            rows = [{**row, "origin": "given"} for row in rows] + made
        pq.write_table(pa.Table.from_pylist(rows), target / f"{split}.parquet")
        counts[split] = len(rows)
    return {"path": str(target), "by": [writer.reference for writer in writers], **counts}


def _writes_texts(writer: Published) -> None:
    if writer.task_name not in _WRITERS or not isinstance(writer.preprocess.text, TextInput):
        raise UsageError(
            f"{writer.reference} is of task {writer.task_name}; texts are written by one of {' or '.join(_WRITERS)}"
        )


def _rows(table: Table, classes: Sequence[str]) -> Iterator[dict[str, Any]]:
    for ids in chunks(len(table), _CHUNK):
        rows = table.rows(ids)
        for place, text in enumerate(rows["text"]):
            label = {"label": classes[rows["label"][place]]} if "label" in rows else {}
            yield {"text": text, **label}


def _made(
    rows: Sequence[dict[str, Any]], writers: Sequence[Published], temperature: float | None, say: Say
) -> Iterator[dict[str, Any]]:
    found = 0
    for first in range(0, len(rows), _BATCH):
        batch = rows[first : first + _BATCH]
        texts = [str(row["text"]) for row in batch]
        for writer in writers:
            texts = _through(writer, texts, temperature)
        for row, text in zip(batch, texts, strict=True):
            if text and text != row["text"]:
                found += 1
                yield {**row, "text": text, "origin": "written"}
        say(f"{first + len(batch)} of {len(rows)} texts, {found} written anew")


def _through(writer: Published, texts: Sequence[str], temperature: float | None) -> list[str]:
    """What a model makes of each text; empty of one that it can't read or that is empty."""
    text = writer.preprocess.text
    assert isinstance(text, TextInput)
    goes_on = writer.task_name == "language-modeling"
    prompts = [_beginning(one) if goes_on else one for one in texts]
    places = [place for place, prompt in enumerate(prompts) if prompt and text.length(prompt) <= text.max_seq_len]
    found = [""] * len(texts)
    if places:
        how = {"temperature": temperature} if temperature is not None and "temperature" in writer.task.settings else {}
        written = writer.written([{"text": prompts[place]} for place in places], **how)
        for place, new in zip(places, written, strict=True):
            found[place] = f"{prompts[place]} {new.strip()}".strip() if goes_on else new.strip()
    return found


def _beginning(text: str) -> str:
    words = text.split()
    return " ".join(words[: max(1, round(len(words) * _BEGINNING))])
