"""Files that other libraries wrote: what in them can't be used is a DataError that names them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dlsvc.errors import DataError, UsageError

# What a model is, in every library's directory.
CONFIG = "config.json"

# What Python, torch and our own constructors raise for values that are missing, of a wrong type or of no use.
_UNFIT = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, UsageError, ValueError)


def read_object(file: Path) -> dict[str, Any]:
    """The object of a JSON file."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{file} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"{file} must be a JSON object")
    return found


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of all safetensors files of a folder."""
    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            found |= load_file(file)
        except (SafetensorError, OSError) as error:
            raise DataError(f"{file} can't be read: {error}") from error
    return found


@contextlib.contextmanager
def blaming(file: Path) -> Iterator[None]:
    """Whatever the values of a file lead to is said to be that file's fault."""
    try:
        yield
    except _UNFIT as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise DataError(f"{file} can't be used: {reason}") from error
