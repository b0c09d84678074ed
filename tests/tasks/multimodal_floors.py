"""What models of images and words must beat: `python -m tests.tasks.multimodal_floors HOME`.

Of easy-vqa and shape-pairs what the questions alone tell of the answers: questions are from a few templates, so that
the best model without an image gives each the answers that it has most often in the training split. Of emoji's captions
the one sentence that has at each place the word that stands there most often.
"""

from __future__ import annotations

import collections
import json
import sys
from pathlib import Path

import numpy as np

from dlsvc.data.source import open_source
from dlsvc.data.table import Table
from dlsvc.data.tokenizer import split_words
from dlsvc.spec.data_sections import DataSpec
from dlsvc.tasks.translation import scores


def question_only(home: Path) -> float:
    """The share of the test split's answers that the question's most frequent answer gets right."""
    source = open_source(DataSpec(source="easy-vqa"), home)
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for question, answer in _pairs(source.table("train")):
        counts[question][answer] += 1
    best = {question: found.most_common(1)[0][0] for question, found in counts.items()}
    pairs = _pairs(source.table("test"))
    return sum(best.get(question) == answer for question, answer in pairs) / len(pairs)


def all_answers(home: Path) -> float:
    """The share of shape-pairs' test conversations whose answers are all the questions' most frequent ones."""
    source = open_source(DataSpec(source="shape-pairs"), home)
    counts: dict[str, collections.Counter[tuple[str, ...]]] = collections.defaultdict(collections.Counter)
    for asked, answers in _conversations(source.table("train")):
        counts[asked][answers] += 1
    best = {asked: found.most_common(1)[0][0] for asked, found in counts.items()}
    pairs = _conversations(source.table("test"))
    return sum(best.get(asked) == answers for asked, answers in pairs) / len(pairs)


def one_caption(home: Path) -> tuple[str, dict[str, float]]:
    """The caption of the most frequent words, as long as the median one, and its scores on the test split."""
    source = open_source(DataSpec(source="emoji"), home)
    train, test = (_captions(source.table(split)) for split in ("train", "test"))
    length = int(np.median([len(words) for words in train]))
    places = [collections.Counter(words[place] for words in train if len(words) > place) for place in range(length)]
    caption = " ".join(counts.most_common(1)[0][0] for counts in places)
    return caption, scores([caption] * len(test), [" ".join(words) for words in test])


def _pairs(table: Table) -> list[tuple[str, str]]:
    rows = table.rows(np.arange(len(table)))
    return list(zip(rows["question"], rows["answer"], strict=True))


def _conversations(table: Table) -> list[tuple[str, tuple[str, ...]]]:
    """Each conversation's first question, and its answers."""
    found = [json.loads(one) for one in table.rows(np.arange(len(table)))["conversation"]]
    return [(turns[0]["value"], tuple(turn["value"] for turn in turns[1::2])) for turns in found]


def _captions(table: Table) -> list[list[str]]:
    return [split_words(text) for text in table.rows(np.arange(len(table)))["text"]]


if __name__ == "__main__":
    home = Path(sys.argv[1])
    print(f"easy-vqa, the question alone: {question_only(home):.4f}")
    print(f"shape-pairs, the questions alone: {all_answers(home):.4f}")
    caption, found = one_caption(home)
    print(f"emoji, always {caption!r}: chrf {found['chrf']:.2f}, bleu {found['bleu']:.2f}")
