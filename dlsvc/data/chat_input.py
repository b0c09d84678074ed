"""Conversations as tokens: what each speaker says in its turn, places for images, and which tokens are answers.

    <bos> USER: <image> what color is the shape? ASSISTANT: red <eos> USER: ...

The turns are those of Vicuna's template, which LLaVA uses, without its preamble (Liu et al. 2023, table 2).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsvc.data.codecs import apart
from dlsvc.data.conversations import PLACEHOLDER, SPEAKERS
from dlsvc.data.tokenizer import Tokenizer
from dlsvc.errors import DataError

# Stands where a patch of an image is to be; no token has it.
IMAGE_ID = -1
_HUMAN, _ASSISTANT = SPEAKERS
NAMES = {_HUMAN: "USER:", _ASSISTANT: "ASSISTANT:"}

Turn = Mapping[str, str]


@dataclass(frozen=True)
class ChatInput:
    """Tokens (B, T) of conversations, and where they are answers. An image takes `image_tokens` places.

    The data has whole conversations in a column, or questions with their answers in another, `target`; what a question
    has no places for is shown before it.
    """

    tokenizer: Tokenizer
    max_seq_len: int
    column: str
    target: str | None
    image_tokens: int

    def of_rows(self, rows: Mapping[str, Any]) -> list[str]:
        """Each row's conversation as JSON."""
        missing = [name for name in (self.column, self.target) if name is not None and name not in rows]
        if missing:
            raise DataError(f"the data has no {missing[0]} column; it has {', '.join(sorted(rows))}")
        if self.target is not None:
            shown = [_num_images(image) for image in rows.get("image", [b""] * len(rows[self.column]))]
            pairs = zip(rows[self.column], rows[self.target], shown, strict=True)
            return [json.dumps(turns_of(*row)) for row in pairs]
        if "image" in rows and self.image_tokens:
            _check_places(rows[self.column], rows["image"], rows.get("uri"))
        return list(rows[self.column])

    def encode(self, conversations: Sequence[str]) -> dict[str, NDArray[Any]]:
        """`tokens` int64, `attention_mask` and `answer_mask` bool, (B, T). One too long loses its end."""
        return self.decode(conversations)[0]

    def decode(self, conversations: Sequence[str]) -> tuple[dict[str, NDArray[Any]], dict[int, str]]:
        """The same of the data's conversations, and why some of them, by their places, can't be learnt from."""
        pad = self.tokenizer.special.pad
        tokens = np.full((len(conversations), self.max_seq_len), pad, np.int64)
        answers = np.zeros(tokens.shape, np.bool_)
        lengths = np.empty((len(conversations), 1), np.int64)
        reasons: dict[int, str] = {}
        for place, conversation in enumerate(conversations):
            ids, said = self._encoded(json.loads(conversation))
            count = min(len(ids), self.max_seq_len)
            tokens[place, :count], answers[place, :count] = ids[:count], said[:count]
            lengths[place] = count
            if lost := _lost(ids, said, count):
                reasons[place] = lost
        keep = np.arange(self.max_seq_len) < lengths
        return {"tokens": tokens, "attention_mask": keep, "answer_mask": answers}, reasons

    def length(self, conversation: str) -> int:
        """How many tokens one has."""
        return len(self._encoded(json.loads(conversation))[0])

    def request(self, asked: Any, images: int = 0) -> str:
        """A question, or turns that end with one, as the conversation that an answer is to go on from. Images for which
        it has no places are shown before it.
        """
        turns = [{"from": _HUMAN, "value": asked}] if isinstance(asked, str) else asked
        if not isinstance(turns, list) or not all(_is_turn(turn) for turn in turns):
            raise DataError("a conversation must be a text, or a list of turns, each {from: human or gpt, value: text}")
        if not turns or [turn["from"] for turn in turns] != [SPEAKERS[place % 2] for place in range(len(turns) | 1)]:
            raise DataError("human and gpt must speak in turn, human first and last")
        places = sum(turn["value"].count(PLACEHOLDER) for turn in turns)
        if places not in (0, images):
            raise DataError(f"{PLACEHOLDER} stands {places} times in it, and it comes with {images} images")
        if not places:
            turns = [{"from": _HUMAN, "value": f"{PLACEHOLDER}\n" * images + turns[0]["value"]}, *turns[1:]]
        return json.dumps([*turns, {"from": _ASSISTANT, "value": ""}])

    def _encoded(self, turns: Sequence[Turn]) -> tuple[list[int], list[bool]]:
        ids, said = [self.tokenizer.special.bos], [False]
        for turn in turns:
            is_answer = turn["from"] == _ASSISTANT
            before = list(self._pieces(f"{NAMES[turn['from']]} " + ("" if is_answer else turn["value"])))
            # A word within a text begins with its space in many vocabularies.
            answer = self.tokenizer.encode(f" {turn['value']}") if turn["value"] else []
            after = [*answer, self.tokenizer.special.eos] if is_answer else []
            ids += [*before, *after]
            said += [False] * len(before) + [True] * len(after)
        return ids, said

    def _pieces(self, text: str) -> Iterator[int]:
        first, *others = text.split(PLACEHOLDER)
        yield from self.tokenizer.encode(first)
        for part in others:
            yield from [IMAGE_ID] * self.image_tokens
            yield from self.tokenizer.encode(part)

    def to_json(self) -> dict[str, Any]:
        return {
            "max_seq_len": self.max_seq_len,
            "column": self.column,
            "chat": {"target": self.target, "image_tokens": self.image_tokens},
        }


def _lost(ids: Sequence[int], said: Sequence[bool], count: int) -> str:
    """What of a conversation is missing of which the first `count` tokens are read; nothing, when it can be learnt
    from. Without its answers it would count as answered right, and without all of an image it couldn't be shown.
    """
    if IMAGE_ID not in ids[count:] and any(said[:count]):
        return ""
    if len(ids) == count:
        return "the assistant says nothing in the conversation"
    what = "an image" if IMAGE_ID in ids[count:] else "every answer"
    return f"{what} is beyond the first {count} of the conversation's {len(ids)} tokens; see data.text.max_seq_len"


def _check_places(conversations: Sequence[str], images: Sequence[Any], uris: Sequence[str] | None) -> None:
    for row, (conversation, image) in enumerate(zip(conversations, images, strict=True)):
        places, count = conversation.count(PLACEHOLDER), _num_images(image)
        if places != count and count:
            where = uris[row] if uris else f"row {row}"
            raise DataError(f"{where}: {PLACEHOLDER} stands {places} times in it, and it has {count} images")


def _num_images(image: Any) -> int:
    """Of a row; 0 where they couldn't be read."""
    return len(apart(image)) if isinstance(image, bytes) else 1


def turns_of(question: str, answer: str, images: int = 1) -> list[Turn]:
    """A question about images, and its answer."""
    shown = "" if PLACEHOLDER in question else f"{PLACEHOLDER}\n" * images
    return [{"from": _HUMAN, "value": shown + question}, {"from": _ASSISTANT, "value": answer}]


def said_in(conversation: str) -> str:
    """All that is said in a conversation, with who says it: what a vocabulary must know."""
    turns = json.loads(conversation)
    return " ".join(f"{NAMES[turn['from']]} {turn['value'].replace(PLACEHOLDER, ' ')}" for turn in turns)


def _is_turn(turn: Any) -> bool:
    return (
        isinstance(turn, dict) and turn.keys() == {"from", "value"} and all(isinstance(v, str) for v in turn.values())
    )
