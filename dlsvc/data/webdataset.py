"""WebDataset: tar archives of samples, whose files share a name up to its first dot; read in place by seeking.

`000001.jpg`, `000001.cls`, `000001.txt`, `000001.json` are one sample: an image (or .wav, .flac, .ogg; `.mask.png` is
its mask), its label, its text, and an object with what `data.columns` names. https://github.com/webdataset/webdataset
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dlsvc.data.columns import TEXTS, named
from dlsvc.data.index import Index
from dlsvc.data.location import Location, reason
from dlsvc.data.samples import AUDIO_SUFFIXES, IMAGE_SUFFIXES, Sample, index_of
from dlsvc.errors import DataError

if TYPE_CHECKING:
    from dlsvc.spec.schema import ColumnsSpec

_BLOCK = 512
_MASKS = ("mask.png", "seg.png")
_INLINE = ("txt", "cls", "json")

# A member's name in its sample, where its bytes are, and of the small ones the bytes.
_Member = tuple[str, int, int, bytes | None]


def index_shards(root: Location, shards: Mapping[str, Sequence[str]], columns: ColumnsSpec, fingerprint: str) -> Index:
    """The index of the splits' archives. Raises DataError for one that is damaged, or a sample that is wrong."""
    samples = [
        {"split": split, **sample}
        for split, names in shards.items()
        for name in names
        for sample in _samples(root, name, columns)
    ]
    if not any(sample["split"] == "train" for sample in samples):
        raise DataError(f"{root}: no samples in {', '.join(shards['train'][:3])}")
    return index_of(_numbered(samples), fingerprint)


def _samples(root: Location, shard: str, columns: ColumnsSpec) -> Iterator[Sample]:
    seen: set[str] = set()
    for key, members in _grouped(root / shard):
        where = f"{root / shard}#{key}"
        if key in seen:
            raise DataError(f"{where}: the files of this sample don't stand next to each other, or it is there twice")
        seen.add(key)
        sample: Sample = {"key": f"{shard}/{key}", "where": where}
        for name, offset, size, data in members:
            sample |= _fields(name, offset, size, data, shard, where, columns)
        if not any(name.endswith(".file") for name in sample):
            held = ", ".join(name for name, *_ in members)
            raise DataError(f"{where}: no image and no sound; it holds {held}")
        yield sample


def _fields(
    name: str, offset: int, size: int, data: bytes | None, shard: str, where: str, columns: ColumnsSpec
) -> dict[str, Any]:
    """What one member adds to its sample; nothing for one of an unknown kind."""
    suffix = "." + name.rpartition(".")[2]
    medium = (
        "mask"
        if name in _MASKS
        else "image"
        if suffix in IMAGE_SUFFIXES
        else "audio"
        if suffix in AUDIO_SUFFIXES
        else None
    )
    if medium:
        return {f"{medium}.file": shard, f"{medium}.offset": offset, f"{medium}.size": size}
    if data is None:
        return {}
    try:
        text = data.decode("utf-8-sig").strip()
        if name.endswith("json"):
            return _object(json.loads(text), where, columns)
    except ValueError as error:
        raise DataError(f"{where}.{name}: {error}") from error
    return {"label" if name.endswith("cls") else "text": text}


def _object(value: Any, where: str, columns: ColumnsSpec) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where}.json: not an object")
    names = {field: named(columns, field, value, f"{where}.json") for field in ("label", *TEXTS)}
    given = {field: value[name] for field, name in names.items() if name and value[name] is not None}
    return {
        field: one if isinstance(one, str) or field == "label" else json.dumps(one, ensure_ascii=False)
        for field, one in given.items()
    }


def _numbered(samples: list[Sample]) -> list[Sample]:
    """Labels that are all whole numbers as such, so that class 10 comes after class 9."""
    labels = [str(sample["label"]) for sample in samples if sample.get("label") is not None]
    read: Callable[[str], int | str] = int if all(label.isdecimal() for label in labels) else str
    return [
        {**sample, "label": read(str(sample["label"]))} if sample.get("label") is not None else sample
        for sample in samples
    ]


def _grouped(shard: Location) -> Iterator[tuple[str, list[_Member]]]:
    """(key, members) of each run of files with the same name up to the first dot."""
    key, members = "", list[_Member]()
    for name, *place in _members(shard):
        folder, slash, file = name.rpartition("/")
        first, _, rest = file.partition(".")
        found = folder + slash + first
        if members and found != key:
            yield key, members
            members = []
        key = found
        members.append((rest.lower(), *place))  # type: ignore[arg-type]
    if members:
        yield key, members


def _members(shard: Location) -> Iterator[tuple[str, int, int, bytes | None]]:
    """(name, offset, size, data of the small ones) of each file in the archive, which is read once from its start."""
    try:
        with shard.open() as file, tarfile.open(fileobj=file, mode="r|", bufsize=2**20) as archive:
            for member in archive:
                if member.isfile() and not member.name.rpartition("/")[2].startswith("."):
                    yield member.name, member.offset_data, member.size, _inline(archive, member)
            end = archive.offset
        _check_end(shard, end)
    except (tarfile.TarError, EOFError, OSError) as error:
        said = "compressed archives can't be read in place; unpack them" if shard.suffix in (".gz", ".tgz") else ""
        raise DataError(f"{shard}: not a whole tar archive: {said or reason(error)}") from error


def _inline(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | None:
    if member.name.rpartition(".")[2].lower() not in _INLINE:
        return None
    file = archive.extractfile(member)
    return file.read() if file else None


def _check_end(shard: Location, end: int) -> None:
    """After the last member come blocks of zeros: anything else is damage, at which tarfile stops in silence."""
    size = shard.facts().size
    block = shard.read_range(end, min(_BLOCK, size - end)) if end < size else b""
    if end > size or block.strip(b"\0"):
        raise OSError(f"damaged at byte {min(end, size)}")
