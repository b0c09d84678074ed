"""Checkpoints that can be trusted: per-rank shards of flat ranges, and a manifest written last that every reader
verifies.

    RUN/checkpoints/step-0000000030/
        rank-00000.safetensors      `KIND/NAME@START`: a flat range of a parameter: weight, ema, optimizer's state
        rank-00001.safetensors
        MANIFEST.json               schema, run, spec identity, step, world size, ranges, each file's size and sha256

A range is (parameter, first flat element, elements), whatever strategy and world size wrote it, so any strategy at any
world size reads it back. Nothing here is pickled. A directory without a manifest that verifies is not a checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dlsvc.errors import CheckpointError

SCHEMA = 1
MANIFEST = "MANIFEST.json"
WEIGHT, EMA, BUFFER, UNTRAINED = "weight", "ema", "buffer", "untrained"


@dataclass(frozen=True)
class FileEntry:
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint is, and what each of its files must be. `shapes` are those of whole tensors by `KIND/NAME`."""

    run: str
    identity: str
    step: int
    world_size: int
    strategy: str
    seed: int
    samples_seen: int
    shapes: dict[str, tuple[int, ...]]
    scalars: dict[str, float] = field(default_factory=dict)
    files: dict[str, FileEntry] = field(default_factory=dict)
    schema: int = SCHEMA


@dataclass(frozen=True)
class Range:
    """A flat range of a named tensor, as one rank holds it."""

    kind: str
    name: str
    start: int
    data: Tensor

    @property
    def key(self) -> str:
        return f"{self.kind}/{self.name}@{self.start}"


def directory(root: Path, step: int) -> Path:
    return root / f"step-{step:010d}"


def write_shard(target: Path, rank: int, ranges: Iterable[Range]) -> tuple[str, FileEntry]:
    """Write one rank's ranges and make them durable; returns the file's entry for the manifest."""
    target.mkdir(parents=True, exist_ok=True)
    path = target / f"rank-{rank:05d}.safetensors"
    tensors = {item.key: item.data.detach().cpu().contiguous() for item in ranges if item.data.numel()}
    try:
        save_file(tensors, path)
        sync(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"can't write {path}: {error}; the last committed checkpoint is untouched") from error
    return path.name, entry_of(path)


def commit(target: Path, manifest: Manifest) -> None:
    """Publish a checkpoint whose shards are all there: the manifest appears at once, by rename, after everything it
    names.
    """
    draft = target / f".{MANIFEST}.draft"
    try:
        body = asdict(manifest)
        draft.write_text(json.dumps({**body, "sha256": _meaning(body)}, indent=1, sort_keys=True))
        sync(draft)
        os.replace(draft, target / MANIFEST)
        sync(target)
        sync(target.parent)
    except OSError as error:
        raise CheckpointError(f"can't commit {target}: {error}; the last committed checkpoint is untouched") from error


def _meaning(body: Mapping[str, Any]) -> str:
    """sha256 of a manifest's content, however it is laid out."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def entry_of(path: Path) -> FileEntry:
    with path.open("rb") as stream:
        return FileEntry(path.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest())


def verify(target: Path) -> Manifest:
    """The manifest of a checkpoint of which every byte is as written; CheckpointError names the file and the reason."""
    path = target / MANIFEST
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw.pop("sha256", None) != _meaning(raw):
            raise CheckpointError(f"{path}: its content differs from its own sha256")
        body = {**raw, "files": {name: FileEntry(**entry) for name, entry in raw["files"].items()}}
        manifest = Manifest(**{**body, "shapes": {name: tuple(shape) for name, shape in raw["shapes"].items()}})
    except FileNotFoundError:
        raise CheckpointError(f"{path}: missing, so the checkpoint was never committed") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path}: unreadable ({error})") from error
    if manifest.schema != SCHEMA:
        raise CheckpointError(f"{path}: schema {manifest.schema}, this version reads {SCHEMA}")
    if directory(target.parent, manifest.step) != target:
        raise CheckpointError(f"{path}: says step {manifest.step}, which is not this directory's")
    for name, expected in manifest.files.items():
        _verify_file(target / name, expected)
    return manifest


def _verify_file(path: Path, expected: FileEntry) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path}: missing")
    size = path.stat().st_size
    if size != expected.bytes:
        raise CheckpointError(f"{path}: {size} bytes, {expected.bytes} were written")
    if entry_of(path).sha256 != expected.sha256:
        raise CheckpointError(f"{path}: sha256 differs from the manifest's")


@dataclass(frozen=True)
class Found:
    """The newest good checkpoint of a run, and why newer ones were passed over."""

    path: Path
    manifest: Manifest
    rejected: tuple[str, ...] = ()


def newest_good(root: Path) -> Found | None:
    """The newest checkpoint that verifies, or None where none was ever committed.

    Raises CheckpointError when some were committed and none can be trusted: a fresh start would silently lose the run.
    """
    rejected: list[str] = []
    committed = journal(root)
    names = committed | {target.name for target in root.glob("step-*[0-9]")}
    for name in sorted(names, reverse=True):
        try:
            return Found(root / name, verify(root / name), tuple(rejected))
        except CheckpointError as error:
            # Without a manifest it is a save that never ended, unless the journal knows better.
            if name in committed or (root / name / MANIFEST).exists():
                rejected.append(str(error))
    if rejected:
        reasons = "\n".join(f"  {reason}" for reason in rejected)
        raise CheckpointError(
            f"checkpoints exist in {root} and none can be trusted; remove the directory to start afresh\n{reasons}"
        )
    return None


def journal(root: Path) -> set[str]:
    """The names of all checkpoints ever committed here and not collected since."""
    path = root / "COMMITTED"
    return set(path.read_text(encoding="utf-8", errors="replace").split()) if path.exists() else set()


def record(root: Path, kept: Iterable[str]) -> None:
    """Remember which checkpoints are committed, so that a lost manifest is not mistaken for a save that never ended."""
    draft = root / ".COMMITTED.draft"
    draft.write_text("\n".join(sorted(kept)) + "\n")
    sync(draft)
    os.replace(draft, root / "COMMITTED")


def collect(root: Path, keep: int) -> None:
    """Remove all but the newest `keep` committed checkpoints, and what unfinished saves left behind. Only the writer
    calls it.
    """
    committed = sorted(target for target in root.glob("step-*[0-9]") if (target / MANIFEST).exists())
    kept = {target.name for target in committed[-keep:]}
    record(root, kept)
    for target in root.glob("step-*"):
        if target.name not in kept:
            shutil.rmtree(target, ignore_errors=True)


class Reader:
    """Random access to a verified checkpoint by flat range."""

    def __init__(self, found: Found) -> None:
        self.manifest = found.manifest
        self._where: dict[str, list[tuple[int, int, Path, str]]] = {}
        for name in found.manifest.files:
            path = found.path / name
            with safe_open(path, framework="pt") as shard:
                for key in shard.keys():  # noqa: SIM118
                    whole, _, start = key.rpartition("@")
                    count = shard.get_slice(key).get_shape()[0]
                    self._where.setdefault(whole, []).append((int(start), int(count), path, key))

    def kinds(self) -> set[str]:
        return {whole.partition("/")[0] for whole in self.manifest.shapes}

    def names(self, kind: str) -> list[str]:
        return sorted(whole.partition("/")[2] for whole in self.manifest.shapes if whole.startswith(f"{kind}/"))

    def range(self, kind: str, name: str, start: int, count: int) -> Tensor:
        """Elements [start, start + count) of a tensor, flat."""
        whole = f"{kind}/{name}"
        out: Tensor | None = None
        filled = 0
        for first, size, path, key in self._where.get(whole, []):
            low, high = max(start, first), min(start + count, first + size)
            if low >= high:
                continue
            with safe_open(path, framework="pt") as shard:
                part = shard.get_slice(key)[low - first : high - first]
            out = torch.empty(count, dtype=part.dtype) if out is None else out
            out[low - start : high - start] = part
            filled += high - low
        if filled != count:
            raise CheckpointError(f"{whole}: {filled} of elements [{start}, {start + count}) are in the checkpoint")
        return out if out is not None else torch.empty(0)

    def tensor(self, kind: str, name: str) -> Tensor:
        """A whole tensor in its shape."""
        shape = self.manifest.shapes[f"{kind}/{name}"]
        return self.range(kind, name, 0, int(torch.Size(shape).numel())).view(shape)

    def tensors(self, kind: str) -> dict[str, Tensor]:
        return {name: self.tensor(kind, name) for name in self.names(kind)}


def weights_sha256(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over the bytes of float32 parameters in name order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Until a file's content, or a directory's names, would outlast a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def iter_ranges(kind: str, tensors: Mapping[str, Tensor]) -> Iterator[Range]:
    """Whole tensors as ranges."""
    return (Range(kind, name, 0, tensor.reshape(-1)) for name, tensor in tensors.items())


def set_aside(root: Path, found: Found) -> None:
    """Rename what is newer than the newest good checkpoint, so that it is neither trusted nor lost."""
    newer = [target for target in root.glob("step-*[0-9]") if target.name > found.path.name]
    for target in newer:
        turn = sum(1 for _ in root.glob(f"bad-{target.name}-*"))
        target.rename(root / f"bad-{target.name}-{turn}")
    record(root, {name for name in journal(root) if name <= found.path.name})
