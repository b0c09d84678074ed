"""The ids that mean something beside the text: of fitted vocabularies the first four, in published ones anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
PAD, BOS, EOS, UNK = SPECIAL
PAD_ID, BOS_ID, EOS_ID, UNK_ID = range(len(SPECIAL))


class Special(NamedTuple):
    """Padding, begin and end of a text, what isn't known, and what stands for a word to be guessed."""

    pad: int = PAD_ID
    bos: int = BOS_ID
    eos: int = EOS_ID
    unk: int = UNK_ID
    mask: int = UNK_ID

    def until_end(self, ids: Iterable[int]) -> list[int]:
        """The ids before the first end, without begin and padding."""
        numbers = [int(number) for number in ids]
        start = 1 if numbers and numbers[0] == self.bos else 0
        end = numbers.index(self.eos, start) if self.eos in numbers[start:] else len(numbers)
        return [number for number in numbers[start:end] if number not in (self.pad, self.bos)]
