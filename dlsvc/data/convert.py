"""From packages to Parquet, once: each data set's splits as columns, written so that a reader never sees half of it."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from dlsvc.data.catalog import CatalogEntry, held_out
from dlsvc.data.codecs import encode_png
from dlsvc.data.fetch import Say, fetch, locked, members, silent
from dlsvc.data.table import content_fingerprint
from dlsvc.errors import DataError

# (B, H, W) of a fixed-size image column, in the schema's metadata.
IMAGE_SHAPE = b"dlsvc.image_shape"

# Pictures up to this many bytes are kept as they are: a PNG of them would be larger and slower.
_RAW_BYTES = 1024
_ROW_GROUP = 2048


@dataclass
class Split:
    """A split in memory. `image` is uint8 (B, H, W) or (B, H, W, C); `extra` columns are kept and not fed."""

    label: NDArray[np.int64]
    image: NDArray[np.uint8] | None = None
    features: NDArray[np.float32] | None = None
    text: list[str] | None = None
    extra: dict[str, list[Any]] = field(default_factory=dict)

    def columns(self) -> dict[str, Any]:
        known = {"image": self.image, "label": self.label, "features": self.features, "text": self.text}
        return {name: column for name, column in known.items() if column is not None}


Splits = dict[str, Split]
Read = Callable[[str, Callable[[str], bool]], Iterator[tuple[str, bytes]]]


def dataset_dir(entry: CatalogEntry, home: Path) -> Path:
    return home / "data" / entry.name / entry.version


def pull(entry: CatalogEntry, home: Path, say: Say = silent) -> Path:
    """The data set's folder: train.parquet, test.parquet, meta.json.

    Pulls and converts what isn't there; safe to call from many processes at once.
    """
    folder = dataset_dir(entry, home)
    if (folder / "meta.json").exists():
        return folder
    with locked(folder.parent / ".lock"):
        if not (folder / "meta.json").exists():
            splits = _convert(entry, home, say)
            _check_counts(entry, splits)
            say(f"writing {folder}")
            _write(entry, splits, folder)
    return folder


def _convert(entry: CatalogEntry, home: Path, say: Say) -> Splits:
    files = {package.name: (package, fetch(package, home, say)) for package in entry.packages}

    def read(name: str, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
        package, path = files[name]
        return members(package, path, wanted)

    say(f"converting {entry.name}")
    try:
        return _CONVERTERS[entry.name](entry, read)
    except (KeyError, ValueError, StopIteration) as error:
        raise DataError(f"the packages of {entry.name} hold something else than expected: {error!r}") from error


def _check_counts(entry: CatalogEntry, splits: Splits) -> None:
    counts = {name: len(split.label) for name, split in splits.items()}
    if counts != dict(entry.counts):
        raise DataError(f"{entry.name} came out as {counts}, not {dict(entry.counts)}")


def _write(entry: CatalogEntry, splits: Splits, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".write-", dir=folder.parent))
    try:
        for name, split in splits.items():
            pq.write_table(
                _arrow(entry, split), part / f"{name}.parquet", row_group_size=_ROW_GROUP, compression="zstd"
            )
        (part / "meta.json").write_text(json.dumps(_meta(entry, splits), indent=2))
        part.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)  # without meta.json: left by something that was killed
        os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _meta(entry: CatalogEntry, splits: Splits) -> dict[str, Any]:
    return {
        "name": entry.name,
        "version": entry.version,
        "classes": list(entry.classes),
        "counts": dict(entry.counts),
        # Of the pixels, not of their encoding, which may change with Pillow's version.
        "fingerprint": {name: content_fingerprint(split.columns()) for name, split in splits.items()},
        "licence": entry.licence,
        "attribution": entry.attribution,
    }


def _arrow(entry: CatalogEntry, split: Split) -> Any:
    columns: dict[str, Any] = {}
    metadata = {}
    if split.image is not None and split.image[0].nbytes <= _RAW_BYTES:
        pixels = np.ascontiguousarray(split.image)
        columns["image"] = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(pixels[0].nbytes), len(pixels), [None, pa.py_buffer(pixels)]
        )
        metadata[IMAGE_SHAPE] = json.dumps(pixels.shape[1:]).encode()
    elif split.image is not None:
        columns["image"] = pa.array([encode_png(pixels) for pixels in split.image], pa.binary())
    if split.features is not None:
        columns |= {name: pa.array(split.features[:, place]) for place, name in enumerate(entry.features)}
    columns["label"] = pa.array(split.label)
    columns |= {} if split.text is None else {"text": pa.array(split.text, pa.string())}
    columns |= {name: pa.array(values) for name, values in split.extra.items()}
    return pa.table(columns).replace_schema_metadata(metadata)


def _one(found: Iterator[tuple[str, bytes]]) -> bytes:
    return next(found)[1]


def _iris(entry: CatalogEntry, read: Read) -> Splits:
    text = _one(read("scikit-learn", lambda name: name.endswith("iris.csv"))).decode()
    rows = np.asarray(list(csv.reader(io.StringIO(text)))[1:], np.float32)
    features, label = rows[:, :4], rows[:, 4].astype(np.int64)
    rank = np.concatenate([np.arange(count) for count in np.bincount(label)])  # the file is sorted by class
    test = rank % 5 == 4
    return {
        name: Split(label=label[keep], features=features[keep]) for name, keep in (("train", ~test), ("test", test))
    }


def _xor(entry: CatalogEntry, read: Read) -> Splits:
    features = np.asarray([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    split = Split(label=np.asarray([0, 1, 1, 0], np.int64), features=features)
    return {"train": split, "test": split}


def _digits(entry: CatalogEntry, read: Read) -> Splits:
    packed = _one(read("scikit-learn", lambda name: name.endswith("digits.csv.gz")))
    rows = np.loadtxt(io.BytesIO(gzip.decompress(packed)), delimiter=",")
    image = np.round(rows[:, :64].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    label = rows[:, 64].astype(np.int64)
    return {"train": Split(label[:1500], image[:1500]), "test": Split(label[1500:], image[1500:])}


def _mnist(entry: CatalogEntry, read: Read) -> Splits:
    prefix = "package/src/digits/"
    parts: dict[str, list[tuple[int, NDArray[np.uint8]]]] = {"train": [], "test": []}
    files = dict(read("mnist", lambda name: name.startswith(prefix)))
    for digit in range(10):
        values = np.asarray(json.loads(files[f"{prefix}{digit}.json"])["data"], np.float64)
        image = np.round(values * 255).astype(np.uint8).reshape(-1, 28, 28)
        last = len(image) // 6
        parts["train"].append((digit, image[:-last]))
        parts["test"].append((digit, image[-last:]))
    return {name: _by_class(found) for name, found in parts.items()}


def _by_class(parts: Sequence[tuple[int, NDArray[np.uint8]]]) -> Split:
    label = np.concatenate([np.full(len(image), digit, np.int64) for digit, image in parts])
    return Split(label, np.concatenate([image for _, image in parts]))


def _fashion_mnist(entry: CatalogEntry, read: Read) -> Splits:
    files = {
        name.rsplit("/", 1)[-1]: content for name, content in read("dataset-fashion-mnist", lambda n: n.endswith(".gz"))
    }
    splits = {}
    for name, prefix in (("train", "train"), ("test", "t10k")):
        label = _idx(files[f"{prefix}-labels-idx1-ubyte.gz"]).astype(np.int64)
        splits[name] = Split(label, _idx(files[f"{prefix}-images-idx3-ubyte.gz"]))
    return splits


def _idx(packed: bytes) -> NDArray[np.uint8]:
    """LeCun's IDX format: two zero bytes, a type, the number of axes, their lengths, the values."""
    content = gzip.decompress(packed)
    axes = content[3]
    shape = np.frombuffer(content, ">i4", axes, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


# The words of a caption for each package of drawings, and where its pictures are.
_STYLES = (
    ("3D rendered", "@lobehub/fluent-emoji-3d", "package/assets/", ".webp"),
    ("Google Noto", "emoji-datasource-google", "package/img/google/64/", ".png"),
    ("flat Twitter", "emoji-datasource-twitter", "package/img/twitter/64/", ".png"),
)


def _emoji(entry: CatalogEntry, read: Read) -> Splits:
    english = dict(read("emojibase-data", lambda name: name in ("package/en/data.json", "package/en/messages.json")))
    messages = json.loads(english["package/en/messages.json"])
    groups = {group["order"]: group["message"] for group in messages["groups"]}
    subgroups = {group["order"]: group["message"] for group in messages["subgroups"]}
    drawings = {style: _drawings(read, *where) for style, *where in _STYLES}
    rows: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    for emoji in json.loads(english["package/en/data.json"]):
        if "group" not in emoji:
            continue
        code = emoji["hexcode"].lower()
        facts = {
            "name": emoji["label"],
            "tags": emoji.get("tags", []),
            "label": entry.classes.index(groups[emoji["group"]]),
            "subgroup": subgroups.get(emoji.get("subgroup"), ""),
            "code": code,
        }
        for style, pictures in drawings.items():
            spellings = (code, code.replace("-fe0f", ""), f"{code}-fe0f")
            picture = next((pictures[name] for name in spellings if name in pictures), None)
            if picture is not None:
                rows["test" if held_out(code) else "train"].append({**facts, "style": style, "picture": picture})
    return {name: _emoji_split(found) for name, found in rows.items()}


def _drawings(read: Read, package: str, prefix: str, suffix: str) -> dict[str, bytes]:
    found = read(package, lambda name: name.startswith(prefix) and name.endswith(suffix))
    return {name[len(prefix) : -len(suffix)]: content for name, content in found}


def _emoji_split(rows: Sequence[Mapping[str, Any]]) -> Split:
    return Split(
        label=np.asarray([row["label"] for row in rows], np.int64),
        image=np.stack([_on_white(row["picture"], 64) for row in rows]),
        text=[f"a {row['style']} emoji of {row['name']}" for row in rows],
        extra={name: [row[name] for row in rows] for name in ("style", "name", "tags", "subgroup", "code")},
    )


def _on_white(data: bytes, size: int) -> NDArray[np.uint8]:
    """Resized while still transparent, so that edges stay clean."""
    with Image.open(io.BytesIO(data)) as opened:
        image = opened.convert("RGBA").resize((size, size))
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))


_CONVERTERS: dict[str, Callable[[CatalogEntry, Read], Splits]] = {
    "iris": _iris,
    "xor": _xor,
    "digits": _digits,
    "mnist": _mnist,
    "fashion-mnist": _fashion_mnist,
    "emoji": _emoji,
}
