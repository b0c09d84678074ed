"""Texts as tokens: what the data's column holds, and what a request says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from dlsvc.data.tokenizer import Tokenizer, encode_batch
from dlsvc.errors import DataError


@dataclass(frozen=True)
class TextInput:
    """Tokens of a column of texts, padded and cut to `max_seq_len`."""

    tokenizer: Tokenizer
    max_seq_len: int
    column: str = "text"

    def of_rows(self, rows: Mapping[str, Any]) -> Any:
        """Each row's text."""
        if self.column not in rows:
            raise DataError(f"the data has no {self.column} column; it has {', '.join(sorted(rows))}")
        return rows[self.column]

    def encode(self, texts: Sequence[str], prefix: str = "") -> dict[str, NDArray[Any]]:
        tokens, mask = encode_batch(self.tokenizer, texts, self.max_seq_len)
        return {f"{prefix}tokens": tokens, f"{prefix}attention_mask": mask}

    def length(self, text: str) -> int:
        """How many tokens a text has, those that begin and end it included."""
        return len(self.tokenizer.encode(text)) + 2

    def request(self, asked: Any, images: int = 0) -> str:
        """What a request asks with, beside so many images."""
        if not isinstance(asked, str):
            raise DataError(f"a text must be a string, not {type(asked).__name__}")
        return asked

    def to_json(self) -> dict[str, Any]:
        return {"max_seq_len": self.max_seq_len, "column": self.column}
