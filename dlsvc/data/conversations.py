"""Conversations about images, as LLaVA has them: a JSON list of records with `id`, `image` and `conversations`.

Each turn is {"from": "human" or "gpt", "value": text}, humans first and in turn; `<image>` stands in them for each
image, in the order of the files, which are named from the list's own folder or from `images` in it.
https://github.com/haotian-liu/LLaVA, docs/Finetune_Custom_Data.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dlsvc.data.folder import read_text
from dlsvc.data.index import Index
from dlsvc.data.location import Location
from dlsvc.data.samples import Sample, index_of
from dlsvc.errors import DataError, did_you_mean

PLACEHOLDER = "<image>"
SPEAKERS = ("human", "gpt")


def index_conversations(root: Location, lists: Mapping[str, Sequence[str]], fingerprint: str) -> Index:
    """The index of the splits' lists. Raises DataError naming the record that is wrong."""
    samples = [
        {"split": split, **sample}
        for split, names in lists.items()
        for name in names
        for sample in _samples(root, name)
    ]
    return index_of(samples, fingerprint)


def _samples(root: Location, name: str) -> list[Sample]:
    place = root / name
    try:
        records = json.loads(read_text(place))
    except ValueError as error:
        raise DataError(f"{place}: not JSON: {error}") from error
    if not isinstance(records, list) or not records:
        raise DataError(f"{place}: not a list of records")
    checked = [_checked(record, f"{place}, record {number}") for number, record in enumerate(records)]
    folder = _folder(root, checked)
    # Of another machine's files one list of all sizes costs less than a question for each.
    sizes = {} if root.is_local else {file.name: file.size for file in (root / folder).files()}
    return [
        {"key": str(records[number].get("id", number)), "where": f"{place}, record {number}"}
        | _images(root, folder, files, sizes)
        | {"conversation": conversation}
        for number, (files, conversation) in enumerate(checked)
    ]


def _folder(root: Location, checked: Sequence[tuple[Sequence[str], str]]) -> str:
    """Where the images are named from."""
    first = next((files[0] for files, _ in checked if files), None)
    inside = first is not None and not (root / first).exists() and (root / "images" / first).exists()
    return "images/" if inside else ""


def _images(root: Location, folder: str, files: Sequence[str], sizes: Mapping[str, int]) -> Sample:
    if not files:
        return {}
    found = [(root / folder / file).facts().size if root.is_local else sizes.get(file, 0) for file in files]
    first, *others = (folder + file for file in files)
    more = {"image.more": others} if others else {}
    return {"image.file": first, "image.offset": None, "image.size": sum(max(0, size) for size in found), **more}


def _checked(record: Any, where: str) -> tuple[Sequence[str], str]:
    """The record's images and its conversation as JSON."""
    if not isinstance(record, dict):
        raise DataError(f"{where}: not an object with image and conversations")
    if "conversations" not in record:
        raise DataError(f"{where}: no conversations{did_you_mean('conversations', map(str, record))}")
    turns = record["conversations"]
    if not isinstance(turns, list) or not turns:
        raise DataError(f"{where}: conversations is not a list of turns")
    for number, turn in enumerate(turns):
        _check_turn(turn, number, f"{where}, turn {number}")
    images = record.get("image") or []
    images = [images] if isinstance(images, str) else images
    _check_images(images, sum(turn["value"].count(PLACEHOLDER) for turn in turns), where)
    plain = [{"from": turn["from"], "value": turn["value"]} for turn in turns]
    return images, json.dumps(plain, ensure_ascii=False)


def _check_turn(turn: Any, number: int, where: str) -> None:
    if not isinstance(turn, dict) or not isinstance(turn.get("value"), str):
        raise DataError(f"{where}: not an object with from and value, a text")
    speaker = turn.get("from")
    if speaker not in SPEAKERS:
        raise DataError(f"{where}: from is {speaker!r}{did_you_mean(str(speaker), SPEAKERS)}")
    if speaker != SPEAKERS[number % 2]:
        raise DataError(f"{where}: {speaker} speaks, and it is {SPEAKERS[number % 2]}'s turn; human begins")


def _check_images(images: Any, placeholders: int, where: str) -> None:
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise DataError(f"{where}: image is not a file's name")
    if placeholders != len(images):
        raise DataError(f"{where}: {PLACEHOLDER} stands {placeholders} times in it, and it has {len(images)} images")
