"""The first chapter's tables and digits."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import Counter

import numpy as np

from dlsvc.data.catalog import CatalogEntry
from dlsvc.data.convert.rows import Converter, Read, Rows, one, split_of


def _iris(entry: CatalogEntry, read: Read) -> Rows:
    text = one(read("scikit-learn", lambda name: name.endswith("iris.csv"))).decode()
    seen: Counter[str] = Counter()
    for *features, label in list(csv.reader(io.StringIO(text)))[1:]:
        test = seen[label] % 5 == 4
        seen[label] += 1
        yield split_of(test), {"label": int(label), "features": np.asarray(features, np.float32)}


def _xor(entry: CatalogEntry, read: Read) -> Rows:
    for split in ("train", "test"):
        for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
            yield split, {"label": a ^ b, "features": np.asarray([a, b], np.float32)}


def _digits(entry: CatalogEntry, read: Read) -> Rows:
    packed = one(read("scikit-learn", lambda name: name.endswith("digits.csv.gz")))
    for place, row in enumerate(np.loadtxt(io.BytesIO(gzip.decompress(packed)), delimiter=",")):
        image = np.round(row[:64].reshape(8, 8) * (255 / 16)).astype(np.uint8)
        yield split_of(place >= 1500), {"label": int(row[64]), "image": image}


def _mnist(entry: CatalogEntry, read: Read) -> Rows:
    prefix = "package/src/digits/"
    files = dict(read("mnist", lambda name: name.startswith(prefix)))
    for digit in range(10):
        values = np.asarray(json.loads(files[f"{prefix}{digit}.json"])["data"], np.float64)
        images = np.round(values * 255).astype(np.uint8).reshape(-1, 28, 28)
        first_of_test = len(images) - len(images) // 6
        for place, image in enumerate(images):
            yield split_of(place >= first_of_test), {"label": digit, "image": image}


CONVERTERS: dict[str, Converter] = {"iris": _iris, "xor": _xor, "digits": _digits, "mnist": _mnist}
