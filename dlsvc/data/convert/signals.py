"""Signals in time: prompts, animations, windows of a motion sensor."""

from __future__ import annotations

import io
import re
from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from dlsvc.data.catalog import CatalogEntry, held_out
from dlsvc.data.codecs import Pixels
from dlsvc.data.convert.rows import Converter, Read, Rows, centred, opened, split_of

# The words of an animation's file name that tell its action.
_ACTIONS = {
    "attack": "attack melee blade throw sword spear axe hammer ranged bat pincer pierce kick bite slash claws mace bow",
    "die": "die death dying",
    "idle": "idle stand standing",
    "move": "run fly bob takeoff flying fall soar",
}
_GREY = (128, 128, 128, 255)
_FEWEST_FRAMES = 4

# Half a window is shared with the next.
_OVERLAP = 2
_TEST_PEOPLE = 3


def _asterisk(entry: CatalogEntry, read: Read) -> Rows:
    for label, language in enumerate(entry.classes):
        found = read(f"asterisk-core-sounds-{language}-wav", lambda name: name.endswith(".wav"))
        for name, wav in sorted(found):
            voice_and_prompt = name.split("/sounds/", 1)[1]
            prompt = voice_and_prompt.split("/", 1)[1].removesuffix(".wav")
            if not prompt.startswith("silence/"):
                yield split_of(held_out(prompt)), {"audio": wav, "label": label, "prompt": prompt}


def _wesnoth(entry: CatalogEntry, read: Read) -> Rows:
    """Frames are numbered files: `orcs/archer-bow-3.png` is a frame of the archer's attack."""
    assert entry.length is not None
    assert entry.image_size is not None
    actions = {word: action for action, words in _ACTIONS.items() for word in words.split()}
    for path, frames in sorted(_frames(read).items()):
        stem = path.rsplit("/", 1)[-1]
        told = [actions[word] for word in stem.split("-") if word in actions]
        if len(frames) >= _FEWEST_FRAMES and told:
            unit = re.split(r"[-+]", stem, maxsplit=1)[0]
            pictures = [frames[number] for number in sorted(frames)]
            film = _film(pictures, entry.length, entry.image_size)
            row = {"video": film, "label": entry.classes.index(told[-1]), "unit": unit, "path": path}
            yield split_of(held_out(unit, 5)), row


def _frames(read: Read) -> Mapping[str, dict[int, bytes]]:
    """Each animation's pictures by their numbers."""
    root = "/core/images/units/"
    found: dict[str, dict[int, bytes]] = defaultdict(dict)
    for name, content in read("wesnoth-1.16-data", lambda name: root in name and name.endswith(".png")):
        if matched := re.fullmatch(r"(.+?)[-_]?(\d+)\.png", name.split(root, 1)[1]):
            found[matched[1]][int(matched[2])] = content
    return found


def _film(pictures: list[bytes], length: int, size: int) -> Pixels:
    """(length x size, size, 3): frames at even distances, on grey, stacked top to bottom."""
    places = np.linspace(0, len(pictures) - 1, length).round().astype(int)
    frames = {place: centred(opened(pictures[place]), size, _GREY).convert("RGB") for place in set(places.tolist())}
    return np.concatenate([np.asarray(frames[place]) for place in places.tolist()])


def _watch(entry: CatalogEntry, read: Read) -> Rows:
    """Windows of (200, 6) float32. The package keeps a pickle, which is read only after its digest was found right."""
    assert entry.length is not None
    stored = next(content for name, content in read("seglearn", lambda name: name.endswith("watch_dataset.npy")))
    facts = np.load(io.BytesIO(stored), allow_pickle=True).item()
    people = sorted({int(person) for person in facts["subject"]})
    for series, label, person in zip(facts["X"], facts["y"], facts["subject"], strict=True):
        test = int(person) in people[-_TEST_PEOPLE:]
        for first in range(0, len(series) - entry.length + 1, entry.length // _OVERLAP):
            window = series[first : first + entry.length].astype(np.float32)
            yield split_of(test), {"series": window, "label": int(label), "person": int(person)}


CONVERTERS: dict[str, Converter] = {"asterisk": _asterisk, "wesnoth": _wesnoth, "watch": _watch}
