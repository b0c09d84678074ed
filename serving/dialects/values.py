"""The values of a request, checked one by one. Each raises UsageError saying what would be right."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dlsvc.errors import UsageError
from dlsvc.predictor import Input

MAX_TEXT_LENGTH = 100_000

_MAX_FEATURE = float(np.finfo(np.float32).max)


def read_bytes(value: Any, what: str, name: str = "inputs") -> bytes:
    if not isinstance(value, str):
        raise UsageError(f'"{name}" must be {what} in base64, not {kind_of(value)}')
    text = value.partition("base64,")[2] if value.startswith("data:") else value
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UsageError(f'"{name}" is not {what} in base64: {error}') from error


def read_text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{what} must be a text, not {kind_of(value)}")
    if len(value) > MAX_TEXT_LENGTH:
        raise UsageError(f"{what} has {len(value)} characters, at most {MAX_TEXT_LENGTH} are taken")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{what} is not a text: {error.reason}") from error
    return value


def read_features(value: Any, row: int) -> Input:
    if not isinstance(value, list):
        raise UsageError(f"row {row} must be a list of numbers, not {kind_of(value)}")
    for number in value:
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        if not is_number or not -_MAX_FEATURE <= number <= _MAX_FEATURE:
            raise UsageError(f"row {row} holds {_shown(number)}; features are finite numbers")
    return {"features": value}


def kind_of(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, float) else kind_of(value)


def read_integer(parameters: Mapping[str, Any], name: str, default: int, least: int) -> int:
    value = parameters.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**63:
        raise UsageError(f'"{name}" must be an integer from {least} to 2^63 - 1')
    return value


def read_number(parameters: Mapping[str, Any], name: str) -> float:
    value = parameters[name]
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise UsageError(f'"{name}" must be a number, not {kind_of(value)}')
    return float(value)
