"""The user's own data, at a path or a uri: which format it is in, which files hold which split, and its index.

- images or sounds: folders by class, pairs of `x.png` and `x.txt`, or a `metadata.csv` or `.jsonl` (see `folder`);
- rows: `.parquet`, `.csv`, `.jsonl`, one file or a folder of `train*` and `test*`, or what Hugging Face's `datasets`
  wrote with `save_to_disk`;
- tar archives in WebDataset's layout; LLaVA's conversations, a `.json` list.

Without a test split of its own, one sample in ten is held out by the crc32 of its name or row number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlsvc.data.conversations import index_conversations
from dlsvc.data.folder import METADATA, SUFFIXES, Folder, read_text, relevant, suffix
from dlsvc.data.index import Index, Indexed, indexed
from dlsvc.data.location import FileFacts, Location, find
from dlsvc.data.progress import Say, silent
from dlsvc.data.rows import index_rows, open_rows
from dlsvc.data.samples import open_samples
from dlsvc.data.splits import Source
from dlsvc.data.webdataset import index_shards
from dlsvc.errors import DataError, UsageError, did_you_mean

if TYPE_CHECKING:
    from dlsvc.spec.schema import DataSpec

# What a file's suffix says of its format.
_OF_SUFFIX = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".tar": "webdataset",
    ".json": "conversations",
}
_ROWS = ("parquet", "csv", "jsonl", "huggingface")
_FOLDERS = {"image-folder": "image", "audio-folder": "audio"}
FORMATS = (*_FOLDERS, *dict.fromkeys(_OF_SUFFIX.values()), "huggingface")
# What `save_to_disk` writes beside its data.
_SAVED = ("dataset_dict.json", "state.json")

Splits = dict[str, list[str]]


@dataclass(frozen=True)
class Place:
    """A file, or a folder with what is below it; names count from `root`."""

    root: Location
    files: Sequence[FileFacts]
    asked: Location

    @property
    def is_file(self) -> bool:
        return self.asked != self.root

    def top(self, *suffixes: str) -> list[str]:
        """Files that lie in the folder itself."""
        return [file.name for file in self.files if "/" not in file.name and suffix(file.name) in suffixes]


def open_user(data: DataSpec, source: str | Path, home: Path, say: Say = silent) -> Source:
    """The source at a path or uri. Raises DataError saying what is wrong, with the file and the row."""
    place = _place(find(source))
    kind = _format(data.format, place)
    return _opened(data, place, kind, _index(data, place, kind, home, say))


def _opened(data: DataSpec, place: Place, kind: str, index: Index) -> Source:
    if kind in _ROWS:
        return open_rows(index, place.root, "arrow" if kind == "huggingface" else kind, data.columns, place.asked.stem)
    return open_samples(index, place.root, place.asked.stem)


def index_user(data: DataSpec, source: str | Path, home: Path, say: Say = silent) -> dict[str, Any]:
    """Make the index where there is none that is good, and say what it holds."""
    place = _place(find(source))
    kind = _format(data.format, place)
    path = _what(data, place, kind).path(home)
    before = path.stat().st_mtime_ns if path.exists() else None
    opened = _opened(data, place, kind, _index(data, place, kind, home, say))
    counts = {split: len(opened.splits[split]()) for split in opened.splits}
    is_kept = path.stat().st_mtime_ns == before
    facts = {"source": str(place.asked), "format": kind, "index": str(path), "made": not is_kept}
    return {**facts, "index_bytes": path.stat().st_size, "counts": counts, "classes": list(opened.classes)}


def index_command(source: str, home: Path, kind: str, columns: Sequence[str], say: Say) -> dict[str, Any]:
    """`index_user` with what the command line says. Raises UsageError for what no spec could say."""
    from dlsvc.spec.schema import ColumnsSpec, DataSpec

    pairs = [text.partition("=") for text in columns]
    known = ColumnsSpec.model_fields
    for field, equals, name in pairs:
        if field not in known:
            raise UsageError(f"--column {field}: no such field{did_you_mean(field, known)}")
        if not equals or not name:
            raise UsageError(f"--column {field}: write FIELD=NAME, as in {field}=my_{field}")
    if kind not in ("auto", *FORMATS):
        raise UsageError(f"--format {kind}: no such format{did_you_mean(kind, FORMATS)}")
    named: dict[str, Any] = {field: name for field, _, name in pairs}
    if "features" in named:
        named["features"] = tuple(named["features"].split(","))
    asked = DataSpec.model_validate({"source": source, "format": kind, "columns": named})
    return index_user(asked, source, home, say)


def _place(asked: Location) -> Place:
    if asked.is_file():
        return Place(asked.parent, [asked.facts()], asked)
    return Place(asked, asked.files(), asked)


def _format(asked: str, place: Place) -> str:
    if asked != "auto":
        if asked not in FORMATS:
            raise DataError(f"data.format: {asked!r} isn't known{did_you_mean(asked, FORMATS)}")
        if place.is_file and asked in (*_FOLDERS, "huggingface"):
            raise DataError(f"{place.asked} is no folder, which data.format {asked} needs")
        return asked
    return _format_of_file(place.asked) if place.is_file else _format_of_folder(place)


def _format_of_file(file: Location) -> str:
    kind = _OF_SUFFIX.get(file.suffix)
    if kind is None:
        known = ", ".join(_OF_SUFFIX)
        raise DataError(f"{file}: neither of {known}; set data.format, or give a folder of images or sounds")
    return kind


def _format_of_folder(place: Place) -> str:
    names = [file.name for file in place.files]
    if any(name in _SAVED for name in names):
        return "huggingface"
    listed = any(name.split("/")[-1] in METADATA for name in names)
    found = {kind: place.top(*_endings(kind)) for kind in _OF_SUFFIX.values()}
    named = [kind for kind, files in found.items() if any(file.startswith("train") for file in files)]
    if named and not listed:
        return named[0]
    counts = {kind: sum(suffix(name) in SUFFIXES[medium] for name in names) for kind, medium in _FOLDERS.items()}
    alone = [kind for kind in ("webdataset", "parquet", "csv", "jsonl", "conversations") if found[kind]]
    if alone and not listed and (not any(counts.values()) or alone[0] == "conversations"):
        return alone[0]
    return max(counts, key=lambda kind: counts[kind])


def _endings(kind: str) -> tuple[str, ...]:
    return tuple(ending for ending, of in _OF_SUFFIX.items() if of == kind)


def _what(data: DataSpec, place: Place, kind: str) -> Indexed:
    if kind in _FOLDERS:
        files = relevant(place.files, _FOLDERS[kind])
    else:
        used = {name for names in _splits(kind, place).values() for name in names}
        files = [file for file in place.files if file.name in used]
    return Indexed(place.root, kind, files, str(place.asked), data.columns.model_dump_json())


def _index(data: DataSpec, place: Place, kind: str, home: Path, say: Say) -> Index:
    what = _what(data, place, kind)
    return indexed(what, home, lambda: _built(what, data, place, kind), say)


def _built(what: Indexed, data: DataSpec, place: Place, kind: str) -> Index:
    if kind in _FOLDERS:
        return Folder(what.root, what.files, _FOLDERS[kind], data.columns).index(what.fingerprint())
    splits, fingerprint = _splits(kind, place), what.fingerprint()
    if kind == "webdataset":
        return index_shards(what.root, splits, data.columns, fingerprint)
    if kind == "conversations":
        return index_conversations(what.root, splits, fingerprint)
    read_as = "arrow" if kind == "huggingface" else kind
    return index_rows(what.root, splits, read_as, data.columns, fingerprint)


def _splits(kind: str, place: Place) -> Splits:
    """The names of each split's files."""
    if kind == "huggingface":
        return _saved_splits(place)
    if place.is_file:
        return {"train": [place.asked.name]}
    endings = _endings(kind)
    files = place.top(*endings)
    found = {split: [name for name in files if name.startswith(split)] for split in ("train", "test")}
    if not found["train"]:
        # Files of any other name are all for training, unless some say that they are a test.
        found["train"] = [name for name in files if not name.startswith("test")]
    if not found["train"]:
        raise DataError(f"{place.root}: no train*{endings[0]} in the folder")
    return {split: names for split, names in found.items() if names}


def _saved_splits(place: Place) -> Splits:
    """Of what `datasets` saved. A validation split is the test split of data that has no other."""
    names = {file.name for file in place.files}
    if "dataset_dict.json" not in names:
        return {"train": _shards(place.root, "")}
    splits = _json(place.root / "dataset_dict.json").get("splits", [])
    found = {str(split): _shards(place.root, f"{split}/") for split in splits}
    if "train" not in found:
        raise DataError(f"{place.root}: no train split; it has {', '.join(found) or 'none'}")
    if "test" not in found and "validation" in found:
        found["test"] = found["validation"]
    return found


def _shards(root: Location, folder: str) -> list[str]:
    state = root / folder / "state.json"
    facts = _json(state)
    if facts.get("_indices_data_files") or facts.get("_indices_files"):
        raise DataError(f"{state}: its rows stand in another order than its files; save it with a newer `datasets`")
    try:
        return [folder + str(file["filename"]) for file in facts["_data_files"]]
    except (KeyError, TypeError) as error:
        raise DataError(f"{state}: names no _data_files, as `datasets` writes them") from error


def _json(place: Location) -> Mapping[str, Any]:
    try:
        found = json.loads(read_text(place))
    except ValueError as error:
        raise DataError(f"{place}: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"{place}: not an object, as `datasets` writes it")
    return found
