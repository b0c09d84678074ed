"""Augmentations of texts: each does what its definition says, to its share of the words, from the text's own key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlsvc.augment import keys as random
from dlsvc.augment.registry import entries, resolve
from dlsvc.augment.text import BackTranslation, Generation, RandomDeletion, RandomInsertion, Shuffle, SynonymReplacement
from dlsvc.errors import UsageError

repeatable = settings(deadline=None, derandomize=True, database=None, max_examples=60)
LEXICON = {"quick": ("fast", "speedy"), "dog": ("hound",), "fox": ("reynard",)}
TEXT = "The Quick brown fox, jumps over the lazy dog!"
WORDS = TEXT.split()
BY_WORDS = [SynonymReplacement, RandomInsertion, RandomDeletion, Shuffle]


def made(kind: Any, **parameters: Any) -> Any:
    return kind(**parameters).with_resources({"lexicon": LEXICON})


def words(count: int) -> np.ndarray:
    return random.sample_keys(0, np.zeros(count, np.int64), np.arange(count, dtype=np.int64))


def test_synonyms_keep_punctuation_and_capitals() -> None:
    found = made(SynonymReplacement, alpha=1.0).apply_text([TEXT] * 20, words(20))
    assert set(found) == {f"The {quick} brown reynard, jumps over the lazy hound!" for quick in ("Fast", "Speedy")}


def test_share_of_words_is_replaced() -> None:
    found = made(SynonymReplacement, alpha=0.23).apply_text([TEXT] * 50, words(50))
    changed = [sum(a != b for a, b in zip(text.split(), WORDS, strict=True)) for text in found]
    assert set(changed) == {2}


def test_insertions_are_synonyms_of_words_that_stay() -> None:
    for text in made(RandomInsertion, alpha=0.34).apply_text([TEXT] * 20, words(20)):
        inserted = [word for word in text.split() if word not in WORDS]
        assert len(text.split()) == len(WORDS) + 3
        assert set(inserted) <= {"fast", "speedy", "hound", "reynard"}


def test_deletion_leaves_its_share_in_order_and_never_nothing() -> None:
    found = [text.split() for text in made(RandomDeletion, alpha=0.3).apply_text([TEXT] * 300, words(300))]
    assert np.mean([len(text) for text in found]) == pytest.approx(0.7 * len(WORDS), rel=0.05)
    assert all([WORDS.index(word) for word in text] == sorted(WORDS.index(word) for word in text) for text in found)
    assert made(RandomDeletion, alpha=1.0).apply_text([TEXT], words(1)) == ["The"]


def test_shuffle_keeps_the_words() -> None:
    found = made(Shuffle, alpha=0.2).apply_text([TEXT] * 20, words(20))
    assert all(sorted(text.split()) == sorted(WORDS) for text in found)
    assert sum(text != TEXT for text in found) == 20


@repeatable
@given(st.sampled_from(BY_WORDS), st.lists(st.text(max_size=40), min_size=1, max_size=6), st.floats(0, 1))
def test_any_text_in_any_batch(kind: Any, texts: list[str], alpha: float) -> None:
    augmentation, keys = made(kind, alpha=alpha), words(len(texts))
    before = list(texts)
    whole = augmentation.apply_text(texts, keys)
    alone = [augmentation.apply_text([text], keys[place : place + 1])[0] for place, text in enumerate(texts)]
    assert whole == alone
    assert texts == before
    assert all(found.split() for found, text in zip(whole, texts, strict=True) if text.split())
    assert made(kind, alpha=alpha, p=0.0).apply_text(texts, keys) == texts


def test_models_are_asked_with_seeds_of_the_texts() -> None:
    """The seam that published models answer behind: two of them for a translation and back, one to generate."""
    asked: list[tuple[str, list[str], list[int]]] = []

    def predict(model: str, texts: list[str], seeds: list[int], how: Mapping[str, float]) -> list[str]:
        asked.append((model, texts, seeds))
        return [f"{model}({text})" for text in texts]

    texts, keys = [f"text {number}" for number in range(40)], words(40)
    there = BackTranslation("en-fr", "fr-en", p=0.5).with_resources({"predict": predict})
    found = there.apply_text(texts, keys)
    changed = [text for text in found if text.startswith("fr-en(en-fr(text")]
    assert 10 < len(changed) < 30
    assert all(text in texts for text in found if text not in changed)
    assert [model for model, _, _ in asked] == ["en-fr", "fr-en"]
    assert asked[0][2] == asked[1][2]
    assert len(set(asked[0][2])) == len(changed)
    alone = Generation("gpt", p=1.0).with_resources({"predict": predict}).apply_text(texts[3:4], keys[3:4])
    together = Generation("gpt", p=1.0).with_resources({"predict": predict}).apply_text(texts, keys)
    assert (alone, asked[-2][2]) == (["gpt(text 3)"], asked[-1][2][3:4])
    assert together[3] == alone[0]


@pytest.mark.parametrize("augmentation", [SynonymReplacement(), RandomInsertion(), Generation("gpt", p=1.0)])
def test_missing_resource_says_what_to_do(augmentation: Any) -> None:
    with pytest.raises(UsageError, match="dlsvc data pull wordnet|none can be asked here"):
        augmentation.apply_text([TEXT], words(1))


def test_every_augmentation_of_the_course_is_there() -> None:
    text = {"synonyms", "insertion", "deletion", "shuffle", "keywords", "back-translation", "generation"}
    assert {name for name, entry in entries().items() if entry.modality == "text"} == text
    assert [one.name for one in resolve("synonyms").parameters] == ["alpha", "p"]
    with pytest.raises(UsageError, match="deletion: alpha must be in"):
        RandomDeletion(alpha=2)
