"""Augmentations of texts: whole words are replaced, inserted, deleted or moved, each text's draws from its own key.

`apply_text(texts, keys)` takes and gives a list of str. The first four are those of EDA (Wei and Zou 2019), with their
share `alpha` of the words. Punctuation stays at its word, and a capital at the place that it stood. What needs more
than the text says so in `needs`, and gets it by `with_resources`: augmentations don't read data or models themselves.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np

from dlsvc.augment import keys as random
from dlsvc.augment.ranges import check_probability, check_within, chosen
from dlsvc.augment.registry import register_augmentation
from dlsvc.errors import UsageError

Lexicon = Mapping[str, tuple[str, ...]]
# model, texts, a seed a text, how it is to write -> texts
Predict = Callable[[str, list[str], list[int], Mapping[str, float]], list[str]]

_WORD = re.compile(r"^(\W*)(.*?)(\W*)$", re.DOTALL)


class _Resourceful:
    """Holds what is handed to it beside its parameters: `needs` says what, under the names of `with_resources`."""

    needs: ClassVar[tuple[str, ...]] = ()
    resources: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    def with_resources(self, resources: Mapping[str, Any]) -> Self:
        found = copy.copy(self)
        object.__setattr__(found, "resources", {name: resources[name] for name in self.needs})
        return found


class _ByWords(_Resourceful):
    """A change of a text's words, applied to texts that are chosen."""

    name: ClassVar[str]
    p: float

    def apply_text(self, texts: Sequence[str], keys: random.Keys) -> list[str]:
        on = chosen(keys, self.name, self.p).tolist()
        own = random.derive(keys, f"{self.name}/words")
        return [
            self.change(text, _Draws(own[place : place + 1])) if on[place] else text for place, text in enumerate(texts)
        ]

    def change(self, text: str, draws: _Draws) -> str:
        raise NotImplementedError


class _Draws:
    """A text's own random numbers, in the order in which they are asked for."""

    def __init__(self, key: random.Keys) -> None:
        self.key, self.count = key, 0

    def below(self, limit: int) -> int:
        """A whole number in [0, limit)."""
        self.count += 1
        return int(random.integers(random.derive(self.key, str(self.count)), 0, limit - 1)[0])

    def uniform(self, count: int) -> np.ndarray:
        self.count += 1
        found: np.ndarray = random.uniform(random.derive(self.key, str(self.count)), (count,))[0]
        return found

    def order(self, count: int) -> list[int]:
        """A permutation of range(count)."""
        return [int(place) for place in np.argsort(self.uniform(count), kind="stable")]


@register_augmentation("synonyms", modality="text")
@dataclass(frozen=True)
class SynonymReplacement(_ByWords):
    """Replaces a share `alpha` of the words that have synonyms by one of them, from WordNet."""

    alpha: float = 0.1
    p: float = 1.0

    name = "synonyms"
    needs = ("lexicon",)

    def __post_init__(self) -> None:
        _check(self)

    def change(self, text: str, draws: _Draws) -> str:
        lexicon, words = _lexicon(self), text.split()
        known = [place for place, word in enumerate(words) if _bare(word).lower() in lexicon]
        for turn in draws.order(len(known))[: _how_many(self.alpha, len(words))]:
            place = known[turn]
            synonyms = lexicon[_bare(words[place]).lower()]
            words[place] = _in_place_of(words[place], synonyms[draws.below(len(synonyms))])
        return " ".join(words)


@register_augmentation("insertion", modality="text")
@dataclass(frozen=True)
class RandomInsertion(_ByWords):
    """Inserts synonyms of a share `alpha` of the words, each anywhere in the text."""

    alpha: float = 0.1
    p: float = 1.0

    name = "insertion"
    needs = ("lexicon",)

    def __post_init__(self) -> None:
        _check(self)

    def change(self, text: str, draws: _Draws) -> str:
        lexicon, words = _lexicon(self), text.split()
        known = [_bare(word).lower() for word in words if _bare(word).lower() in lexicon]
        for turn in draws.order(len(known))[: _how_many(self.alpha, len(words))]:
            synonyms = lexicon[known[turn]]
            words.insert(draws.below(len(words) + 1), synonyms[draws.below(len(synonyms))])
        return " ".join(words)


@register_augmentation("deletion", modality="text")
@dataclass(frozen=True)
class RandomDeletion(_ByWords):
    """Deletes each word with probability `alpha`; one is always left."""

    alpha: float = 0.1
    p: float = 1.0

    name = "deletion"

    def __post_init__(self) -> None:
        _check(self)

    def change(self, text: str, draws: _Draws) -> str:
        words = text.split()
        kept = [word for word, draw in zip(words, draws.uniform(len(words)), strict=True) if draw >= self.alpha]
        return " ".join(kept or words[:1])


@register_augmentation("shuffle", modality="text")
@dataclass(frozen=True)
class Shuffle(_ByWords):
    """Swaps two words, as often as a share `alpha` of the words."""

    alpha: float = 0.1
    p: float = 1.0

    name = "shuffle"

    def __post_init__(self) -> None:
        _check(self)

    def change(self, text: str, draws: _Draws) -> str:
        words = text.split()
        for _ in range(_how_many(self.alpha, len(words)) if len(words) > 1 else 0):
            one, other = draws.order(len(words))[:2]
            words[one], words[other] = words[other], words[one]
        return " ".join(words)


@register_augmentation("keywords", modality="text")
@dataclass(frozen=True)
class Keywords(_ByWords):
    """Puts some of a text's own words before it, each with probability `alpha`, in any order: a language model learns
    to follow what it is told (as by the control codes of Keskar et al. 2019).
    """

    alpha: float = 0.5
    p: float = 0.8

    name = "keywords"

    def __post_init__(self) -> None:
        _check(self)

    def change(self, text: str, draws: _Draws) -> str:
        words = text.split()
        told = [word for word, draw in zip(words, draws.uniform(len(words)), strict=True) if draw < self.alpha]
        return " ".join([*(told[place] for place in draws.order(len(told))), text]) if told else text


@register_augmentation("back-translation", modality="text")
@dataclass(frozen=True)
class BackTranslation(_Resourceful):
    """Translates the text by one published model and back by another (Sennrich et al. 2016)."""

    model: str
    back: str
    p: float = 0.5

    needs = ("predict",)

    def __post_init__(self) -> None:
        check_probability("back-translation", self.p)

    def apply_text(self, texts: Sequence[str], keys: random.Keys) -> list[str]:
        return _through(self, "back-translation", (self.model, self.back), texts, keys)


@register_augmentation("generation", modality="text")
@dataclass(frozen=True)
class Generation(_Resourceful):
    """Lets a published language model go on from the first half of a text's words, drawn at `temperature`."""

    model: str
    p: float = 0.5
    temperature: float = 0.8

    needs = ("predict",)

    def __post_init__(self) -> None:
        check_probability("generation", self.p)
        check_within("generation", "temperature", self.temperature, 0, 100)

    def apply_text(self, texts: Sequence[str], keys: random.Keys) -> list[str]:
        return _through(self, "generation", (self.model,), texts, keys, {"temperature": self.temperature})


def _check(augmentation: Any) -> None:
    check_within(augmentation.name, "alpha", augmentation.alpha, 0, 1)
    check_probability(augmentation.name, augmentation.p)


def _how_many(alpha: float, words: int) -> int:
    """At least one of the words, as EDA has it, unless the share is 0."""
    return max(1, int(alpha * words)) if alpha > 0 else 0


def _lexicon(augmentation: SynonymReplacement | RandomInsertion) -> Lexicon:
    if "lexicon" not in augmentation.resources:
        raise UsageError(f"{augmentation.name} needs WordNet's synonyms: dlsvc data pull wordnet")
    lexicon: Lexicon = augmentation.resources["lexicon"]
    return lexicon


def _through(
    augmentation: BackTranslation | Generation,
    name: str,
    models: Sequence[str],
    texts: Sequence[str],
    keys: random.Keys,
    how: Mapping[str, float] = MappingProxyType({}),
) -> list[str]:
    """The chosen texts through the models, one after the other, with seeds of their own."""
    if "predict" not in augmentation.resources:
        raise UsageError(f"{name} asks published models, and none can be asked here")
    predict: Predict = augmentation.resources["predict"]
    on = np.flatnonzero(chosen(keys, name, augmentation.p))
    seeds = (random.derive(keys, f"{name}/seed")[on] >> np.uint64(1)).tolist()
    found, changed = list(texts), [texts[place] for place in on.tolist()]
    for model in models:
        changed = predict(model, changed, seeds, how) if changed else []
    for place, text in zip(on.tolist(), changed, strict=True):
        found[place] = text
    return found


def _bare(word: str) -> str:
    found = _WORD.match(word)
    return found[2] if found else word


def _in_place_of(word: str, other: str) -> str:
    """Another word with this one's punctuation and capital."""
    found = _WORD.match(word)
    before, bare, after = found.groups() if found else ("", word, "")
    return before + (other[:1].upper() + other[1:] if bare[:1].isupper() else other) + after
