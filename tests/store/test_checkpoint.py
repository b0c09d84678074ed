"""Every fault of a checkpoint's files is found, named, and passed over for the last good one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from dlsvc.errors import CheckpointError
from dlsvc.store import checkpoint
from dlsvc.store.checkpoint import MANIFEST, WEIGHT, FileEntry, Manifest, Range, Reader

VALUES = torch.arange(1000, dtype=torch.float32)


def write(root: Path, step: int, *, shards: int = 3, keep: int = 2) -> Path:
    """A checkpoint of one tensor spread over shards."""
    target = checkpoint.directory(root, step)
    files: dict[str, FileEntry] = {}
    for rank in range(shards):
        start, stop = (1000 * turn // shards for turn in (rank, rank + 1))
        name, entry = checkpoint.write_shard(
            target, rank, [Range(WEIGHT, "model.weight", start, VALUES[start:stop] + step)]
        )
        files[name] = entry
    about = {"run": "r", "identity": "i", "strategy": "ddp", "seed": 0, "samples_seen": step * 8}
    checkpoint.commit(
        target, Manifest(step=step, world_size=shards, shapes={"weight/model.weight": (10, 100)}, files=files, **about)
    )
    checkpoint.collect(root, keep)
    return target


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, 10)
    write(tmp_path, 20)
    return tmp_path


def _faults(target: Path) -> Iterator[tuple[str, str]]:
    """(fault, file) over every file: truncations, bit flips, deletion, swaps, and a shard of an older checkpoint."""
    names = sorted(path.name for path in target.iterdir())
    for name in names:
        yield from ((fault, name) for fault in ("truncate-0", "truncate-half", "truncate-1", "delete", "append"))
        yield from ((f"flip-{number}", name) for number in range(22))
    yield from ((f"swap-{other}", name) for name in names for other in names if name < other)
    yield from (("older", name) for name in names)


def _break(target: Path, fault: str, name: str, seed: int) -> None:
    path = target / name
    body = bytearray(path.read_bytes())
    kind, _, detail = fault.partition("-")
    if kind == "truncate":
        path.write_bytes(body[: {"0": 0, "half": len(body) // 2, "1": len(body) - 1}[detail]])
    elif kind == "flip":
        at = int(np.random.default_rng(seed).integers(len(body)))
        body[at] ^= 1 << (seed % 8)
        path.write_bytes(body)
    elif kind == "delete":
        path.unlink()
    elif kind == "append":
        path.write_bytes(bytes(body) + b"\0")
    elif kind == "swap":
        other = target / detail
        path.write_bytes(other.read_bytes())
        other.write_bytes(body)
    elif kind == "older":
        shutil.copy(checkpoint.directory(target.parent, 10) / name, path)


def test_every_fault_of_the_newest_checkpoint_is_found(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    newest = checkpoint.directory(root, 20)
    faults = list(_faults(newest))
    assert len(faults) >= 100
    missed = []
    for number, (fault, name) in enumerate(faults):
        copy = tmp_path_factory.mktemp("broken") / "checkpoints"
        shutil.copytree(root, copy)
        _break(checkpoint.directory(copy, 20), fault, name, number)
        found = checkpoint.newest_good(copy)
        if _harmless(copy, newest):
            continue
        if found is None or found.manifest.step != 10 or "step-0000000020" not in "".join(found.rejected):
            missed.append((fault, name))
    assert not missed


def _harmless(copy: Path, newest: Path) -> bool:
    """A flipped bit of the manifest's white space leaves its meaning as it was."""
    there = checkpoint.directory(copy, 20)
    try:
        manifests = [json.loads((folder / MANIFEST).read_text()) for folder in (there, newest)]
        shards = [[(folder / name).read_bytes() for name in manifests[1]["files"]] for folder in (there, newest)]
    except (OSError, ValueError):
        return False
    return manifests[0] == manifests[1] and shards[0] == shards[1]


def test_message_names_the_file_and_the_reason(root: Path) -> None:
    path = checkpoint.directory(root, 20) / "rank-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    found = checkpoint.newest_good(root)
    assert found is not None
    assert "rank-00001.safetensors" in found.rejected[0]
    assert "bytes" in found.rejected[0]


def test_no_good_checkpoint_is_an_error_not_a_fresh_start(root: Path) -> None:
    for target in root.glob("step-*"):
        (target / "rank-00000.safetensors").unlink()
    with pytest.raises(CheckpointError, match="none can be trusted"):
        checkpoint.newest_good(root)


def test_deleted_directories_are_missed(root: Path) -> None:
    for target in list(root.glob("step-*")):
        shutil.rmtree(target)
    with pytest.raises(CheckpointError, match="none can be trusted"):
        checkpoint.newest_good(root)


def test_an_unfinished_save_is_no_checkpoint(root: Path) -> None:
    checkpoint.write_shard(checkpoint.directory(root, 30), 0, [Range(WEIGHT, "model.weight", 0, VALUES)])
    found = checkpoint.newest_good(root)
    assert found is not None
    assert (found.manifest.step, found.rejected) == (20, ())
    write(root, 40)
    assert sorted(path.name[-2:] for path in root.glob("step-*")) == ["20", "40"]


def test_empty_directory_is_a_fresh_start(tmp_path: Path) -> None:
    assert checkpoint.newest_good(tmp_path) is None


def test_reader_gives_any_range_over_shards(root: Path) -> None:
    found = checkpoint.newest_good(root)
    assert found is not None
    reader = Reader(found)
    assert torch.equal(reader.tensor(WEIGHT, "model.weight"), (VALUES + 20).view(10, 100))
    assert torch.equal(reader.range(WEIGHT, "model.weight", 300, 400), VALUES[300:700] + 20)


def test_full_disk_leaves_the_last_checkpoint_as_it_was(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*arguments: object, **keywords: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", no_space)
    with pytest.raises(CheckpointError, match="No space left.*untouched"):
        checkpoint.write_shard(checkpoint.directory(root, 30), 0, [Range(WEIGHT, "model.weight", 0, VALUES)])
    monkeypatch.undo()
    found = checkpoint.newest_good(root)
    assert found is not None
    assert found.manifest.step == 20


def test_set_aside_keeps_what_it_renames(root: Path) -> None:
    (checkpoint.directory(root, 20) / "rank-00000.safetensors").write_bytes(b"")
    found = checkpoint.newest_good(root)
    assert found is not None
    checkpoint.set_aside(root, found)
    assert (root / "bad-step-0000000020-0" / MANIFEST).exists()
    again = checkpoint.newest_good(root)
    assert again is not None
    assert (again.manifest.step, again.rejected) == (10, ())
