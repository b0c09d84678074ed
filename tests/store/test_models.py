"""Versions, aliases, and what happens to those that somebody names wrongly or still needs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from dlsvc.cli import main
from dlsvc.errors import NotFound, Refused, UsageError
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
