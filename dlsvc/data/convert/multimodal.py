"""Pictures with words: emoji and stamps with captions, shapes with questions, captions or conversations."""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dlsvc.data.catalog import CatalogEntry, held_out
from dlsvc.data.codecs import together
from dlsvc.data.convert.rows import Converter, Read, Row, Rows, centred, on_white, opened, split_of
from dlsvc.data.convert.stamps import stamps

# The words of a caption for each package of drawings, and where its pictures are.
_STYLES = (
    ("3D rendered", "@lobehub/fluent-emoji-3d", "package/assets/", ".webp"),
    ("Google Noto", "emoji-datasource-google", "package/img/google/64/", ".png"),
    ("flat Twitter", "emoji-datasource-twitter", "package/img/twitter/64/", ".png"),
)
_SIZE = 64
_VQA_SPLITS = ("train", "test")
_COLOURS = frozenset({"green", "red", "gray", "teal", "black", "yellow", "brown", "blue"})
_SHAPES = frozenset({"circle", "rectangle", "triangle"})


def _emoji(entry: CatalogEntry, read: Read) -> Rows:
    drawings = {style: _drawings(read, *where) for style, *where in _STYLES}
    for code, facts in _named_emoji(entry, read):
        for style, pictures in drawings.items():
            spellings = (code, code.replace("-fe0f", ""), f"{code}-fe0f")
            picture = next((pictures[name] for name in spellings if name in pictures), None)
            if picture is not None:
                # Resized while still transparent, so that edges stay clean.
                image = on_white(opened(picture).resize((_SIZE, _SIZE)))
                caption = f"a {style} emoji of {facts['name']}"
                yield split_of(held_out(code)), {"image": image, "text": caption, "style": style, **facts}


def _named_emoji(entry: CatalogEntry, read: Read) -> Iterator[tuple[str, Row]]:
    """(code points, what is known of them) of the emoji that are in a group."""
    english = dict(read("emojibase-data", lambda name: name in ("package/en/data.json", "package/en/messages.json")))
    messages = json.loads(english["package/en/messages.json"])
    groups, subgroups = (_by_order(messages[name]) for name in ("groups", "subgroups"))
    for emoji in json.loads(english["package/en/data.json"]):
        if "group" in emoji:
            code = emoji["hexcode"].lower()
            yield (
                code,
                {
                    "label": entry.classes.index(groups[emoji["group"]]),
                    "name": emoji["label"],
                    "tags": emoji.get("tags", []),
                    "subgroup": subgroups.get(emoji.get("subgroup"), ""),
                    "code": code,
                },
            )


def _by_order(messages: list[Mapping[str, Any]]) -> dict[int | None, str]:
    return {message["order"]: message["message"] for message in messages}


def _drawings(read: Read, package: str, prefix: str, suffix: str) -> dict[str, bytes]:
    found = read(package, lambda name: name.startswith(prefix) and name.endswith(suffix))
    return {name[len(prefix) : -len(suffix)]: content for name, content in found}


def _stamps(entry: CatalogEntry, read: Read) -> Rows:
    for stamp in stamps(read):
        image = centred(opened(stamp.picture), _SIZE, "white").convert("RGB")
        row = {
            "image": np.asarray(image),
            "label": entry.classes.index(stamp.category),
            "text": stamp.caption,
            "path": stamp.path,
        }
        yield split_of(held_out(stamp.file_name)), row


def _easy_vqa(entry: CatalogEntry, read: Read) -> Rows:
    """The answer is a class too, so that a model without a language can be asked."""
    files = _vqa_files(read)
    for split in _VQA_SPLITS:
        for question, answer, number in json.loads(files[f"{split}/questions.json"]):
            image = files[f"{split}/images/{number}.png"]
            label = entry.classes.index(answer)
            yield split, {"image": image, "question": question, "answer": answer, "label": label}


def _shapes(entry: CatalogEntry, read: Read) -> Rows:
    """What the questions about an image and their answers say of it, as its caption."""
    files = _vqa_files(read)
    for split in _VQA_SPLITS:
        for number, words in _known(files, split):
            if words:
                colour = min(words & _COLOURS, default="")
                shape = min(words & _SHAPES, default="shape")
                image = files[f"{split}/images/{number}.png"]
                yield split, {"image": image, "text": " ".join(["a", *colour.split(), shape])}


def _shape_pairs(entry: CatalogEntry, read: Read) -> Rows:
    """Two images, of one colour in every second pair, and what is asked about them in two turns."""
    files = _vqa_files(read)
    for split in _VQA_SPLITS:
        colours = {number: min(words & _COLOURS) for number, words in _known(files, split) if words & _COLOURS}
        for first, turn in itertools.product(colours, range(2)):
            same, draw = turn == 0, zlib.crc32(f"{split} {first} {turn}".encode())
            others = [number for number in colours if (colours[number] == colours[first]) == same and number != first]
            second = others[draw % len(others)]
            asked, known = ("first", first) if draw >> 16 & 1 else ("second", second)
            turns = [
                ("human", f"<image>\n<image>\nwhat color is the shape in the {asked} image?"),
                ("gpt", colours[known]),
                ("human", "do both shapes have the same color?"),
                ("gpt", "yes" if same else "no"),
            ]
            image = together([files[f"{split}/images/{number}.png"] for number in (first, second)])
            conversation = json.dumps([{"from": speaker, "value": value} for speaker, value in turns])
            yield split, {"image": image, "conversation": conversation}


def _known(files: Mapping[str, bytes], split: str) -> list[tuple[int, set[str]]]:
    """Each image's number and the colours and shapes that are said of it."""
    told: dict[int, set[str]] = {}
    for question, answer, number in json.loads(files[f"{split}/questions.json"]):
        told.setdefault(number, set()).update(_told(question, answer))
    return sorted(told.items())


def _told(question: str, answer: str) -> set[str]:
    """The colours and shapes that a question and its answer say are there."""
    words = set(question.removesuffix("?").split())
    is_denied = bool(words & {"no", "not"})
    if answer == ("yes" if is_denied else "no"):
        return set()
    return (words | {answer}) & (_COLOURS | _SHAPES)


def _vqa_files(read: Read) -> dict[str, bytes]:
    root = "easy_vqa/data/"
    return {name.removeprefix(root): content for name, content in read("easy-vqa", lambda name: name.startswith(root))}


CONVERTERS: dict[str, Converter] = {
    "emoji": _emoji,
    "stamps": _stamps,
    "easy-vqa": _easy_vqa,
    "shapes": _shapes,
    "shape-pairs": _shape_pairs,
}
