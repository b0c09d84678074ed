"""CapFilt: captions for images, and a filter of those that don't belong to them (Li et al. 2022, section 3.3).

dlsvc data swap shapes ./noisy-shapes --share 0.3     # pairs as the web has them: some texts belong to other images
dlsvc train jobs/multimodal/blip-noisy-shapes.yaml
dlsvc capfilt blip-noisy-shapes ./noisy-shapes ./sifted-shapes    # what it takes for pairs, and captions of its own
dlsvc train jobs/multimodal/blip-sifted-shapes.yaml
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dlsvc.augment import keys
from dlsvc.data.codecs import encode_png
from dlsvc.data.progress import Say, silent
from dlsvc.data.source import open_source
from dlsvc.data.table import Table, chunks
from dlsvc.errors import DataError, Refused, UsageError
from dlsvc.nn.device import open_device
from dlsvc.predictor import Predictor, in_rows
from dlsvc.spec.data_sections import DataSpec
from dlsvc.store.models import ModelStore

# Where it was drawn that a pair's text is another's.
SWAPPED = "swapped"
_CHUNK = 256
# Rows of a group of the files written.
_GROUP = 1024


def swap_texts(name: str, target: Path, share: float, seed: int, home: Path, say: Say = silent) -> dict[str, Any]:
    """Write a data set's splits as Parquet, with a share of the training texts moved round among themselves; the column
    `swapped` says which. The other splits stay as they are.
    """
    if not 0 <= share <= 1:
        raise UsageError(f"--share must be in [0, 1], not {share}")
    source = open_source(DataSpec(source=name), home, say)
    _has_pairs(source.table("train"), name)
    _is_new(target)
    counts = {}
    for split in source.splits:
        table = source.table(split)
        texts = _all_texts(table)
        moved = _moved(texts, share, seed) if split == "train" else {}
        rows = (
            {"image": image, "text": moved.get(number, texts[number]), SWAPPED: number in moved}
            for number, image in enumerate(_images(table))
        )
        counts[split] = _write(target / f"{split}.parquet", rows)
        counts[SWAPPED] = counts.get(SWAPPED, 0) + len(moved)
    return {"path": str(target), **counts}


def _moved(texts: Sequence[str], share: float, seed: int) -> dict[int, str]:
    """Each chosen sample's new text: that of the next one chosen, where it says something else."""
    words = keys.sample_keys(seed, np.zeros(len(texts), np.int64), np.arange(len(texts)))
    order = np.argsort(keys.uniform(keys.derive(words, "swap")), kind="stable")[: round(share * len(texts))]
    pairs = zip(order.tolist(), np.roll(order, 1).tolist(), strict=True)
    return {one: texts[other] for one, other in pairs if texts[one] != texts[other]}


@dataclass
class Sieve:
    """What a filter has let through, and what is known of it."""

    threshold: float
    rows: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def take(self, image: bytes, text: str, score: float, origin: str) -> None:
        kept = score >= self.threshold
        name = f"{origin}_{'kept' if kept else 'dropped'}"
        self.counts[name] = self.counts.get(name, 0) + 1
        if kept:
            self.rows.append({"image": image, "text": text, "origin": origin, "score": score})

    def judge(self, swapped: bool, score: float) -> None:
        """Count a decision whose right answer is known."""
        name = f"{'swapped' if swapped else 'true'}_{'found' if score < self.threshold else 'passed'}"
        self.counts[name] = self.counts.get(name, 0) + 1


def capfilt(
    reference: str,
    name: str,
    target: Path,
    home: Path,
    *,
    threshold: float = 0.5,
    device: str = "cpu",
    say: Say = silent,
) -> dict[str, Any]:
    """Write the training pairs that a model of the task `bootstrapped` takes for pairs, and its own captions of the
    images, filtered likewise; the other splits stay as they are.

    Where the data has a column `swapped`, also which share of the swapped texts was found and of the true ones dropped.
    """
    bundle = ModelStore(home).open(reference)
    if bundle.config["task"]["name"] != "bootstrapped":
        raise UsageError(f"{reference} is of task {bundle.config['task']['name']}; capfilt needs one of bootstrapped")
    source = open_source(DataSpec(source=name), home, say)
    _has_pairs(source.table("train"), name)
    _is_new(target)
    table, sieve, model = source.table("train"), Sieve(threshold), _Model(bundle, _CHUNK, open_device(device))
    known = _swapped(Path(name), len(table))
    done = 0
    for images, texts in _pairs(table):
        captions = model.captions(images)
        scores, own = model.scores(images, texts), model.scores(images, captions)
        for place, image in enumerate(images):
            sieve.take(image, texts[place], scores[place], "given")
            if captions[place] != texts[place]:
                sieve.take(image, captions[place], own[place], "written")
            if known is not None:
                sieve.judge(bool(known[done + place]), scores[place])
        done += len(images)
        say(f"{done} of {len(table)} pairs, {len(sieve.rows)} texts kept")
    if not sieve.rows:
        raise DataError(f"{reference} takes nothing in {name} for a pair at a threshold of {threshold}")
    counts = {"train": _write(target / "train.parquet", iter(sieve.rows))}
    for split in source.splits:
        if split != "train":
            rows = (
                {"image": i, "text": t}
                for images, texts in _pairs(source.table(split))
                for i, t in zip(images, texts, strict=True)
            )
            counts[split] = _write(target / f"{split}.parquet", rows)
    found = {"path": str(target), "threshold": threshold, **counts, **sieve.counts, **_shares(sieve.counts)}
    (target / "capfilt.json").write_text(json.dumps({"model": bundle.reference, **found}, indent=1) + "\n")
    return found


def _shares(counts: dict[str, int]) -> dict[str, float]:
    """How many of the swapped texts are found, and how many true ones are taken for swapped."""
    found = {}
    for kind, name in (("swapped", "swapped_found_share"), ("true", "false_alarm_share")):
        total = counts.get(f"{kind}_found", 0) + counts.get(f"{kind}_passed", 0)
        if total:
            found[name] = round(counts.get(f"{kind}_found", 0) / total, 4)
    return found


class _Model(Predictor):
    """A model of the task `bootstrapped`."""

    def captions(self, images: Sequence[bytes]) -> list[str]:
        return [row["text"] for row in self.predict([{"image": image} for image in images])]

    def scores(self, images: Sequence[bytes], texts: Sequence[str]) -> list[float]:
        """The probability that each image and text belong together. One too long is read as in training: cut."""
        pairs = [{"image": image, "text": text} for image, text in zip(images, texts, strict=True)]
        return [row["match"] for row in self.compute(in_rows(self.preprocess.from_request(pairs)))]


def _pairs(table: Table) -> Iterator[tuple[list[bytes], list[str]]]:
    for ids in chunks(len(table), _CHUNK):
        rows = table.rows(ids)
        yield [_encoded(image) for image in rows["image"]], list(rows["text"])


def _images(table: Table) -> Iterator[bytes]:
    for ids in chunks(len(table), _CHUNK):
        yield from map(_encoded, table.rows(ids)["image"])


def _encoded(image: Any) -> bytes:
    return image if isinstance(image, bytes) else encode_png(np.asarray(image))


def _all_texts(table: Table) -> list[str]:
    return [text for ids in chunks(len(table), _CHUNK) for text in table.rows(ids)["text"]]


def _swapped(path: Path, count: int) -> np.ndarray | None:
    """Which training texts were swapped, where the data says it."""
    file = path / "train.parquet"
    if not file.is_file() or SWAPPED not in pq.read_schema(file).names:
        return None
    found: np.ndarray = pq.read_table(file, columns=[SWAPPED]).column(SWAPPED).to_numpy()
    return found if len(found) == count else None


def _write(path: Path, rows: Iterator[dict[str, Any]]) -> int:
    found = list(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(found), path, row_group_size=_GROUP)
    return len(found)


def _has_pairs(table: Table, name: str) -> None:
    missing = [column for column in ("image", "text") if column not in table.columns]
    if missing:
        raise DataError(f"{name} has no {missing[0]} column; it has {', '.join(table.columns)}")


def _is_new(target: Path) -> None:
    if target.exists() and any(target.iterdir()):
        raise Refused(f"{target} is not empty; choose a new directory")
