"""Texts: definitions, novels, pairs of languages."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from itertools import groupby

from dlsvc.data.catalog import CatalogEntry, held_out
from dlsvc.data.convert.rdata import lazy_load
from dlsvc.data.convert.rows import Converter, Read, Rows, split_of
from dlsvc.data.convert.sword import verses

# One in so many chapters, pages or synsets is held out.
_ONE_IN = 20
# Longer paragraphs are tables and lists without their layout.
_LONGEST_EN, _LONGEST_FR = 40, 60
_SHORTEST = 3


def _wordnet(entry: CatalogEntry, read: Read) -> Rows:
    """Princeton's data files (wndb(5WN)): offset, file, part of speech, hexadecimal word count, words; ` | ` gloss."""
    parts = {"noun": "noun", "verb": "verb", "adjective": "adj", "adverb": "adv"}
    found = read("wordnet-base", lambda name: "/wordnet/data." in name)
    files = {name.rsplit(".", 1)[1]: content.decode("latin-1") for name, content in found}
    for label, name in enumerate(entry.classes):
        for line in files[parts[name]].splitlines():
            if line.startswith("  "):  # the licence
                continue
            left, gloss = line.rstrip().split(" | ", 1)
            offset, _, _, count, *words = left.split()
            lemmas = [_word(word) for word in words[: 2 * int(count, 16) : 2]]
            synset = offset + parts[name][0]
            row = {"label": label, "text": gloss, "lemmas": json.dumps(lemmas), "synset": synset}
            yield split_of(held_out(synset, _ONE_IN)), row


def _word(stored: str) -> str:
    """Without the mark of where an adjective may stand, `(p)`, and with its spaces."""
    return re.sub(r"\(\w+\)$", "", stored).replace("_", " ")


def _austen(entry: CatalogEntry, read: Read) -> Rows:
    found = {name.rsplit(".", 1)[1]: content for name, content in read("r-cran-janeaustenr", _is_r_database)}
    for book, lines in sorted(lazy_load(found["rdx"], found["rdb"]).items()):
        for blank, run in groupby(lines, key=lambda line: not line.strip()):
            if not blank:
                paragraph = " ".join(line.strip() for line in run)
                yield split_of(book == "persuasion"), {"text": paragraph, "book": book}


def _is_r_database(name: str) -> bool:
    return name.endswith(("data/Rdata.rdx", "data/Rdata.rdb"))


def _bible(entry: CatalogEntry, read: Read) -> Rows:
    english, spanish = (dict(verses(read, package)) for package in ("sword-text-web", "sword-text-sparv"))
    for (chapter, verse), spanish_text in spanish.items():
        text = english.get((chapter, verse))
        if text and spanish_text:
            row = {"text": text, "target_text": spanish_text, "verse": f"{chapter}.{verse}"}
            yield split_of(held_out(chapter, _ONE_IN)), row


def _libreoffice(entry: CatalogEntry, read: Read) -> Rows:
    """Paragraphs that carry the same id on the same page in both languages, each English text once."""
    english, french = (dict(_paragraphs(read, *which)) for which in (("en-us", "en-US"), ("fr", "fr")))
    seen: set[str] = set()
    for place in sorted(english.keys() & french.keys()):
        text, target = english[place], french[place]
        fits = _SHORTEST <= len(text.split()) <= _LONGEST_EN and len(target.split()) <= _LONGEST_FR
        if text != target and fits and text not in seen:
            seen.add(text)
            page, _ = place
            yield split_of(held_out(page, _ONE_IN)), {"text": text, "target_text": target, "page": page}


def _paragraphs(read: Read, package: str, folder: str) -> Iterator[tuple[tuple[str, str], str]]:
    """((page, id), text)."""
    root = f"/help/{folder}/text/"
    for name, content in sorted(read(f"libreoffice-help-{package}", lambda name: root in name)):
        page = name.split(root, 1)[1]
        found = re.findall(r'<(?:p|h\d) id="([^"]+)"[^>]*>(.*?)</(?:p|h\d)>', content.decode(), re.DOTALL)
        for name_of_paragraph, body in found:
            text = html.unescape(re.sub(r"<[^>]+>", "", body))
            yield (page, name_of_paragraph), " ".join(text.split())


CONVERTERS: dict[str, Converter] = {
    "wordnet": _wordnet,
    "austen": _austen,
    "bible-en-es": _bible,
    "libreoffice-en-fr": _libreoffice,
}
