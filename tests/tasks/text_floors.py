"""What the language recipes must beat, on their own held-out texts and in their own tokens.

`python -m tests.tasks.text_floors [HOME]` prints, for each published recipe that is there: the perplexity of a
Kneser-Ney model of five tokens (gpt2, llama), the perplexity of tokens by their frequency (bert), and chrF and BLEU of
the source left as it is (transformer).
"""

from __future__ import annotations

import collections
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dlsvc.data.preprocess import Preprocess
from dlsvc.data.source import open_source
from dlsvc.data.table import chunks
from dlsvc.errors import NotFound
from dlsvc.spec.load import parse
from dlsvc.store.models import ModelStore
from dlsvc.tasks.translation import scores

_ORDER, _DISCOUNT = 5, 0.75
_TRANSLATORS = ("transformer-libreoffice", "transformer-libreoffice-back", "transformer-bible")


class KneserNey:
    """Interpolated Kneser-Ney (Chen and Goodman 1999, section 2.7) with one discount for all orders."""

    def __init__(self, texts: Iterable[Sequence[int]], vocab_size: int, order: int = _ORDER) -> None:
        self.order, self.vocab_size = order, vocab_size
        # By length of history: how often each token follows it (in lower orders: after how many different tokens).
        self.counts: list[dict[tuple[int, ...], collections.Counter[int]]] = [
            collections.defaultdict(collections.Counter) for _ in range(order)
        ]
        for text in texts:
            for place in range(1, len(text)):
                history = tuple(text[max(0, place - order + 1) : place])
                self._add(history, text[place])

    def _add(self, history: tuple[int, ...], token: int) -> None:
        for length in range(len(history), -1, -1):
            seen = self.counts[length][history[len(history) - length :]]
            seen[token] += 1
            # Shorter histories count what a token has followed, each once.
            if seen[token] > 1:
                return

    def probability(self, history: tuple[int, ...], token: int) -> float:
        found = 1 / self.vocab_size
        for length in range(min(len(history), self.order - 1) + 1):
            seen = self.counts[length].get(history[len(history) - length :])
            if not seen:
                break
            total = sum(seen.values())
            found = (max(0.0, seen[token] - _DISCOUNT) + _DISCOUNT * len(seen) * found) / total
        return found

    def perplexity(self, texts: Iterable[Sequence[int]]) -> float:
        logs, count = 0.0, 0
        for text in texts:
            for place in range(1, len(text)):
                history = tuple(text[max(0, place - self.order + 1) : place])
                logs, count = logs - math.log(self.probability(history, text[place])), count + 1
        return math.exp(logs / count)


def unigram_perplexity(train: Iterable[Sequence[int]], test: Iterable[Sequence[int]], vocab_size: int) -> float:
    """Of tokens between the first and the last of a text, by their frequency plus one."""
    counts = np.ones(vocab_size)
    for text in train:
        np.add.at(counts, np.asarray(text[1:-1], np.int64), 1)
    logs = np.log(counts / counts.sum())
    return math.exp(-np.concatenate([logs[np.asarray(text[1:-1], np.int64)] for text in test]).mean())


def floors(name: str, home: Path) -> dict[str, float]:
    bundle = ModelStore(home).open(name)
    spec: Any = parse(bundle.config["spec"])
    source, preprocess = open_source(spec.data, home), Preprocess.from_json(bundle.preprocess)
    assert preprocess.text is not None
    table = {split: source.table(split) for split in ("train", "test")}
    if preprocess.target is not None:
        ids = np.arange(min(len(table["test"]), bundle.config["task"]["args"].get("scored") or len(table["test"])))
        rows = table["test"].rows(ids)
        both = [
            _read(preprocess, one.encode(rows[one.column])["tokens"]) for one in (preprocess.text, preprocess.target)
        ]
        return scores(*both)
    texts = {split: _texts(preprocess, one) for split, one in table.items()}
    size = preprocess.text.tokenizer.vocab_size
    if bundle.config["model"]["name"] == "bert":
        return {"masked_perplexity": unigram_perplexity(texts["train"], texts["test"], size)}
    return {"perplexity": KneserNey(texts["train"], size).perplexity(texts["test"])}


def _read(preprocess: Preprocess, tokens: Any) -> list[str]:
    return [preprocess.read_tokens(row.tolist()) for row in tokens]


def _texts(preprocess: Preprocess, table: Any) -> list[list[int]]:
    assert preprocess.text is not None
    found: list[list[int]] = []
    for ids in chunks(len(table), 4096):
        batch = preprocess.text.encode(table.rows(ids)[preprocess.text.column])
        found += [row[keep].tolist() for row, keep in zip(batch["tokens"], batch["attention_mask"], strict=True)]
    return found


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else Path.home() / ".dlsvc"
    for recipe in ("gpt2-austen", "llama-austen", "bert-wordnet", *_TRANSLATORS):
        try:
            print(recipe, {metric: round(value, 3) for metric, value in floors(recipe, place).items()}, flush=True)
        except NotFound:
            print(recipe, "is not published here", flush=True)
