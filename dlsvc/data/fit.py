"""What a spec's data section asks for, fitted on the training split: vocabularies, means and deviations, classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dlsvc.augment import keys
from dlsvc.augment.pipeline import Pipeline
from dlsvc.data.audio_input import fit_audio
from dlsvc.data.chat_input import ChatInput, said_in
from dlsvc.data.image_input import ImageInput
from dlsvc.data.preprocess import FeatureInput, Preprocess, prompt_of
from dlsvc.data.progress import Say
from dlsvc.data.series_input import fit_series
from dlsvc.data.splits import Source
from dlsvc.data.table import Table, chunks
from dlsvc.data.text_input import TextInput
from dlsvc.data.tokenizer import ByteTokenizer, Tokenizer, build_tokenizer
from dlsvc.data.video_input import video_input
from dlsvc.data.vocabulary_files import read_vocabulary
from dlsvc.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from dlsvc.spec.schema import DataSpec, ImageSpec, TextSpec

_CHUNK = 8192
# Augmented texts that a vocabulary is fitted on, beside the texts themselves: about so many, and every text once.
_VERSIONS = 20_000
# Texts whose length is asked, and the length of one in which nothing stands but what begins and ends it.
_LOOKED_AT, _ENDS = 1024, 2


def build_preprocess(data: DataSpec, source: Source, pipeline: Pipeline | None = None) -> Preprocess:
    """What a spec's data section asks for, the source's facts for what it leaves out, fitted on the training split. A
    vocabulary has the words that the pipeline's synonyms bring in, too: they would otherwise be unknown.
    """
    table = source.table("train")
    classes, positive = _classes(data.positive, source)
    text = _fit_text(data.text, table, classes, pipeline or Pipeline()) if data.text is not None else None
    return Preprocess(
        image=_image_input(data.image, source) if "image" in table.columns else None,
        features=_fit_features(table, source.features, data.standardise) if "features" in table.columns else None,
        text=text,
        target=_target(data.text, text, table) if data.text and text else None,
        video=video_input(data.video, source) if "video" in table.columns else None,
        series=fit_series(table, source.features) if "series" in table.columns else None,
        audio=fit_audio(data.audio, table) if data.audio is not None else None,
        classes=classes,
        positive=positive,
        prompt=data.text.prompt if data.text is not None else None,
        source=source.name,
    )


def _classes(positive: str | None, source: Source) -> tuple[tuple[str, ...], int | None]:
    if positive is None:
        return source.classes, None
    if positive not in source.classes:
        raise DataError(
            f"data.positive: {source.name} has no class {positive!r}{did_you_mean(positive, source.classes)}"
        )
    return (f"not {positive}", positive), source.classes.index(positive)


def _image_input(asked: ImageSpec | None, source: Source) -> ImageInput:
    if asked is not None:
        return ImageInput(asked.size, asked.channels, tuple(asked.mean), tuple(asked.std), asked.count)
    if source.image_size is None or source.channels is None:
        raise DataError(
            f"data.image must say what size {source.name}'s images are resized to, as in "
            "`image: {size: 64, channels: 3, mean: [0.5], std: [0.5]}`"
        )
    return ImageInput(source.image_size, source.channels, source.mean, source.std)


def _fit_features(table: Table, names: tuple[str, ...], standardise: bool) -> FeatureInput:
    if not standardise:
        return FeatureInput(names, (0.0,) * len(names), (1.0,) * len(names))
    total = np.zeros(len(names))
    squares = np.zeros(len(names))
    for ids in chunks(len(table), _CHUNK):
        total += table.rows(ids)["features"].astype(np.float64).sum(axis=0)
    mean = total / len(table)
    for ids in chunks(len(table), _CHUNK):
        squares += np.square(table.rows(ids)["features"] - mean).sum(axis=0)
    std = np.sqrt(squares / len(table))
    std[std == 0] = 1  # a constant feature becomes 0
    return FeatureInput(names, tuple(mean.tolist()), tuple(std.tolist()))


def _fit_text(asked: TextSpec, table: Table, classes: Sequence[str], pipeline: Pipeline) -> TextInput | ChatInput:
    if asked.prompt is not None:
        if "text" in table.columns:
            raise DataError("data.text.prompt is set and the data has texts of its own")
        if not classes:
            raise DataError("data.text.prompt is set and the data has no classes")
        prompts = [prompt_of(asked.prompt, name) for name in classes]
        return TextInput(_tokenizer(asked, prompts), asked.max_seq_len)
    _has_column(asked.column, "data.text.column", table)
    if asked.chat:
        return _fit_chat(asked, table)
    return TextInput(_tokenizer(asked, _texts(asked, table, pipeline)), asked.max_seq_len, asked.column)


def _fit_chat(asked: TextSpec, table: Table) -> ChatInput:
    if asked.target is not None:
        _has_column(asked.target, "data.text.target", table)
    rest = asked.max_seq_len, asked.column, asked.target, asked.image_tokens
    # Only a row's own conversation is asked of it here, which needs no vocabulary.
    reader = ChatInput(ByteTokenizer(), *rest)
    said = (said_in(one) for ids in chunks(len(table), _CHUNK) for one in reader.of_rows(table.rows(ids)))
    return ChatInput(_tokenizer(asked, said), *rest)


def _target(asked: TextSpec, text: TextInput | ChatInput, table: Table) -> TextInput | None:
    if asked.target is None or asked.chat:
        return None
    _has_column(asked.target, "data.text.target", table)
    return TextInput(text.tokenizer, asked.target_len or asked.max_seq_len, asked.target)


def check_texts(preprocess: Preprocess, table: Table, say: Say) -> None:
    """Says how many of up to 1,024 texts, evenly spread, are longer than the model reads: they lose their end. Raises
    DataError when none of the split has anything in it.
    """
    rows = table.rows(np.unique(np.linspace(0, len(table) - 1, min(len(table), _LOOKED_AT)).astype(np.int64)))
    parts = {"max_seq_len": preprocess.text, "target_len": preprocess.target}
    for field, part in parts.items():
        if part is None or preprocess.prompt is not None:
            continue
        lengths = [part.length(text) for text in part.of_rows(rows)]
        if max(lengths) <= _ENDS and len(lengths) == len(table):
            raise DataError(f"the {part.column} column: none of its texts has a token to learn from")
        cut = sum(length > part.max_seq_len for length in lengths)
        if cut:
            say(
                f"{part.column}: {cut:,} of {len(lengths):,} texts have more than data.text.{field} = "
                f"{part.max_seq_len} tokens, their ends included, and what is beyond is not read"
            )


def _has_column(name: str, field: str, table: Table) -> None:
    if name not in table.columns:
        raise DataError(f"{field}: the data has no {name} column; it has {', '.join(table.columns)}")


def _tokenizer(asked: TextSpec, texts: Iterable[str]) -> Tokenizer:
    if asked.vocabulary is not None:
        return read_vocabulary(asked.vocabulary)
    return build_tokenizer(asked.tokenizer, texts, asked.vocab_size)


def _texts(asked: TextSpec, table: Table, pipeline: Pipeline) -> Iterator[str]:
    """Every text that the vocabulary must know."""
    for ids in chunks(len(table), _CHUNK):
        yield from _with_versions(table, ids, pipeline, asked.column)
        if asked.target is not None and asked.target in table.columns:
            yield from table.rows(ids)[asked.target]


def _with_versions(table: Table, ids: NDArray[np.int64], pipeline: Pipeline, column: str) -> Iterator[str]:
    """The texts of some rows, and versions of each with the words that a lexicon has for theirs."""
    texts = table.rows(ids)[column]
    yield from texts
    changes = Pipeline(tuple(one for one in pipeline.augmentations if "lexicon" in getattr(one, "needs", ())))
    if changes.augmentations:
        for epoch in range(max(1, _VERSIONS // len(table))):
            words = keys.sample_keys(0, np.full_like(ids, epoch), ids)
            yield from changes.apply({"text": texts}, words)["text"]
