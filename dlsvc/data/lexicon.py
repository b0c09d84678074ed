"""Synonyms from the catalog's WordNet, for augmentations of texts."""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from pathlib import Path

import pyarrow.parquet as pq

from dlsvc.augment.text import Lexicon
from dlsvc.data.catalog import entry
from dlsvc.data.convert import pull
from dlsvc.data.progress import Say, silent


def wordnet_lexicon(home: Path, say: Say = silent) -> Lexicon:
    """Each lower-case word's synonyms in alphabetical order: the other members of all its synsets (Miller 1995).
    Stop words have none, as in EDA: `in` would become `indium`.
    """
    return _lexicon(pull(entry("wordnet"), home, say))


@functools.lru_cache(maxsize=1)
def _lexicon(folder: Path) -> Lexicon:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    found: dict[str, set[str]] = defaultdict(set)
    for file in sorted(folder.glob("*.parquet")):
        for lemmas in pq.read_table(file, columns=["lemmas"]).column("lemmas").to_pylist():
            members = [str(lemma).replace("_", " ") for lemma in json.loads(lemmas)]
            for member in members:
                found[member.lower()].update(other for other in members if other.lower() != member.lower())
    return {word: tuple(sorted(others)) for word, others in found.items() if others and word not in ENGLISH_STOP_WORDS}
