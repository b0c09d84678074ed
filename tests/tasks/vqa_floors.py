"""What the question alone tells of the answer in easy-vqa: `python -m tests.tasks.vqa_floors HOME`.

Questions are from a few templates, so that the best model without an image gives each the answer that it has most often
in the training split.
"""

from __future__ import annotations

import collections
import sys
from pathlib import Path

import numpy as np

from dlsvc.data.source import open_source
from dlsvc.spec.data_sections import DataSpec


def question_only(home: Path) -> float:
    """The share of the test split's answers that the question's most frequent answer gets right."""
    source = open_source(DataSpec(source="easy-vqa"), home)
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for question, answer in _pairs(source.table("train")):
        counts[question][answer] += 1
    best = {question: found.most_common(1)[0][0] for question, found in counts.items()}
    pairs = _pairs(source.table("test"))
    return sum(best.get(question) == answer for question, answer in pairs) / len(pairs)


def _pairs(table) -> list[tuple[str, str]]:  # type: ignore[no-untyped-def]
    rows = table.rows(np.arange(len(table)))
    return list(zip(rows["question"], rows["answer"], strict=True))


if __name__ == "__main__":
    print(f"question only: {question_only(Path(sys.argv[1])):.4f}")
