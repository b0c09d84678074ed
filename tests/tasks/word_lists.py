"""How vectors of words agree with people: `python -m tests.tasks.word_lists HOME MODEL`.

Spearman's correlation with the similarities of WordSim-353 and SimLex-999, and the share of Google's analogies (a is to
b as c is to ?) that the nearest vector to b - a + c gets right (Mikolov et al. 2013), each of the pairs and questions
whose words the model knows; and words with their nearest.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from dlsvc.data.catalog import entry
from dlsvc.data.convert import pull
from dlsvc.data.preprocess import Preprocess
from dlsvc.data.tokenizer import WordTokenizer
from dlsvc.store.models import ModelStore

_SHOWN = ("king", "red", "dog", "water", "music")
_CHUNK = 1024


class Words:
    """A published model's words and their vectors of length 1."""

    def __init__(self, home: Path, reference: str) -> None:
        bundle = ModelStore(home).open(reference)
        text = Preprocess.from_json(bundle.preprocess).text
        assert text is not None
        assert isinstance(text.tokenizer, WordTokenizer)
        self.names = text.tokenizer.words
        weights = bundle.weights()
        table = weights["words.weight"].numpy()
        if bundle.config["model"]["name"] == "glove":  # whose words are the sum of their two vectors
            table = table + weights["contexts.weight"].numpy()
        table = table[4 : 4 + len(self.names)]
        self.vectors = table / np.linalg.norm(table, axis=1, keepdims=True).clip(1e-12)
        self.places = {name: place for place, name in enumerate(self.names)}

    def similarity(self, file: Path) -> tuple[float, int, int]:
        """Spearman's correlation, and how many of the file's pairs are known."""
        rows = [line.split("\t") for line in file.read_text().splitlines() if line and not line.startswith("#")]
        known = [(a.lower(), b.lower(), float(score)) for a, b, score in rows]
        pairs = [(self.places[a], self.places[b], s) for a, b, s in known if a in self.places and b in self.places]
        first, second, judged = (np.asarray(part) for part in zip(*pairs, strict=True))
        found = (self.vectors[first] * self.vectors[second]).sum(1)
        return float(spearmanr(found, judged).statistic), len(pairs), len(rows)

    def analogies(self, file: Path) -> tuple[float, int, int]:
        """The share that is right, and how many of the file's questions are known."""
        rows = [line.lower().split() for line in file.read_text().splitlines() if not line.startswith(":")]
        known = np.asarray([[self.places[word] for word in row] for row in rows if all(w in self.places for w in row)])
        right = 0
        for first in range(0, len(known), _CHUNK):
            a, b, c, wanted = known[first : first + _CHUNK].T
            scores = (self.vectors[b] - self.vectors[a] + self.vectors[c]) @ self.vectors.T
            for asked in (a, b, c):  # what was asked with is no answer
                scores[np.arange(len(a)), asked] = -np.inf
            right += int((scores.argmax(1) == wanted).sum())
        return right / len(known), len(known), len(rows)

    def nearest(self, word: str, count: int = 6) -> list[str]:
        order = np.argsort(-(self.vectors @ self.vectors[self.places[word]]))
        return [self.names[place] for place in order[1 : count + 1]]


def main(home: Path, reference: str) -> None:
    words, folder = Words(home, reference), pull(entry("word-lists"), home)
    for name in ("wordsim353.tsv", "simlex999.txt"):
        found, known, count = words.similarity(folder / name)
        print(f"{name}: Spearman {found:.3f} on {known} of {count} pairs")
    found, known, count = words.analogies(folder / "questions-words.txt")
    print(f"analogies: {found:.3f} right of {known} of {count} questions (chance {1 / len(words.names):.5f})")
    for word in _SHOWN:
        print(f"{word}: {', '.join(words.nearest(word))}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
