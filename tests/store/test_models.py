"""Versions, aliases, and what happens to those that somebody names wrongly or still needs."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from dlsvc.cli import main
from dlsvc.errors import NotFound, Refused, UsageError
from dlsvc.store import bundle, models
from dlsvc.store.bundle import BrokenBundle
from dlsvc.store.models import ModelStore


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """Two versions of `net`, of two runs."""
    store = ModelStore(tmp_path)
    for run in ("first", "second"):
        publish(store, run)
    return store


def publish(store: ModelStore, run: str, name: str = "net") -> str:
    config = {"schema": 1, "model": {"name": "lenet5", "args": {}}, "task": {"name": "classification"}, "spec": None}
    lineage = {"run": run, "weights_sha256": run, "identity": "i"}
    documents = {"config.json": config, "preprocess.json": {}, "metrics.json": {}, "lineage.json": lineage}
    return store.publish(name, {"weight": torch.ones(2)}, documents)


def test_versions_count_up_and_the_last_is_the_default(store: ModelStore) -> None:
    assert store.versions("net") == [1, 2]
    assert store.resolve("net") == ("net", 2)
    assert store.open("net@1").lineage["run"] == "first"


def test_publishing_a_run_again_gives_its_version_back(store: ModelStore) -> None:
    assert publish(store, "first") == "net@1"
    assert store.versions("net") == [1, 2]


def test_a_broken_version_is_not_given_back_to_the_run_that_made_it(store: ModelStore) -> None:
    _flip(store.root / "net" / "2" / "model.safetensors")
    assert [publish(store, "second") for _ in range(2)] == ["net@3", "net@3"]
    with pytest.raises(BrokenBundle):
        store.open("net@2")


def test_a_number_is_never_given_twice(store: ModelStore) -> None:
    store.remove("net@2")
    store.remove("net@1")
    assert store.names() == []
    assert [publish(store, run) for run in ("third", "second")] == ["net@3", "net@4"]


@pytest.mark.timeout(30)
@pytest.mark.parametrize("fails", ["rename", "fsync"])
def test_a_disk_that_refuses_ends_the_publishing_and_leaves_no_draft(
    fails: str, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(os, fails, refuse)
        with pytest.raises(OSError, match="Read-only"):
            publish(store, "third")
    assert list((store.root / "net").glob(".draft-*")) == []
    assert publish(store, "third") == "net@3"


def test_what_a_killed_publisher_left_is_cleared_by_the_next(store: ModelStore) -> None:
    left = store.root / "net" / ".draft-0"
    left.mkdir()
    (left / "model.safetensors").touch()
    publish(store, "third")
    assert not left.exists()


def test_a_version_is_durable_before_it_has_its_number(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    done, rename = [], os.rename

    def note(draft: Path, target: Path) -> None:
        done.append(f"rename to {target.name}")
        rename(draft, target)

    for module in (bundle, models):
        monkeypatch.setattr(module, "sync", lambda path: done.append(path.name.partition("-")[0]))
    monkeypatch.setattr(os, "rename", note)
    publish(store, "third")
    files = ["model.safetensors", "config.json", "preprocess.json", "metrics.json", "lineage.json", "DIGESTS.json"]
    assert done == [*files, ".draft", "rename to 3", "net", "models"]


def test_publishers_at_once_take_numbers_in_turn(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda run: publish(ModelStore(tmp_path), str(run % 4)), range(8)))
    assert set(found) == {f"net@{number}" for number in range(1, 5)}
    assert ModelStore(tmp_path).versions("net") == [1, 2, 3, 4]


def _flip(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[-1] ^= 4
    path.write_bytes(body)


@pytest.mark.parametrize(
    ("file", "damages"),
    [
        ("DIGESTS.json", lambda path: path.write_text("{")),
        ("config.json", _flip),
        ("metrics.json", lambda path: path.write_bytes(b"")),
        ("model.safetensors", Path.unlink),
    ],
)
def test_a_damaged_version_is_a_row_of_the_table(
    file: str, damages: Callable[[Path], None], store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    damages(store.root / "net" / "1" / file)
    bad, good = store.table()
    assert (bad["model"], file in bad["damage"]) == ("net@1", True)
    assert (good["model"], good["task"], good["damage"]) == ("net@2", "classification", None)
    monkeypatch.setenv("DLSVC_HOME", str(store.root.parent))
    said = CliRunner().invoke(main, ["models", "ls"])
    assert (said.exit_code, file in said.stdout) == (0, True)


def test_the_table_does_not_read_weights(store: ModelStore) -> None:
    _flip(store.root / "net" / "1" / "model.safetensors")
    assert [row["damage"] for row in store.table()] == [None, None]


def test_alias_moves(store: ModelStore) -> None:
    store.alias("net@2", "prod")
    store.alias("net@1", "prod")
    assert store.resolve("net@prod") == ("net", 1)


def test_version_that_an_alias_names_is_kept(store: ModelStore) -> None:
    store.alias("net@1", "prod")
    with pytest.raises(Refused, match="net@1 is prod; move the alias first"):
        store.remove("net@1")
    assert store.remove("net@2") == "net@2"
    assert store.versions("net") == [1]


@pytest.mark.parametrize(
    ("reference", "error"),
    [("net@3", NotFound), ("net@best", NotFound), ("nett", NotFound), ("../net", UsageError), ("net@../1", UsageError)],
)
def test_wrong_reference(store: ModelStore, reference: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        store.resolve(reference)


@pytest.mark.parametrize("name", ["../../net", "My_Model", "net@1", "", "net\n"])
def test_wrong_name_is_refused_before_it_is_a_directory(name: str, tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "home")
    with pytest.raises(UsageError, match="use 1 to 63 of a-z, 0-9 and -"):
        publish(store, "first", name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["import", "no-such-directory", "../net"], ["soup", "../net", "one", "two"]])
def test_the_commands_check_the_name_first(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLSVC_HOME", str(tmp_path))
    said = CliRunner().invoke(main, ["models", *command])
    assert (said.exit_code, "can't be a model's name" in said.stderr) == (2, True)


def test_the_command_removes(store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLSVC_HOME", str(tmp_path))
    done = CliRunner().invoke(main, ["models", "rm", "net@1", "--json"])
    assert json.loads(done.stdout) == {"model": "net@1", "status": "removed"}
    again = CliRunner().invoke(main, ["models", "rm", "net@1"])
    assert again.exit_code == 102
