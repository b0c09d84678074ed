"""What goes wrong: broken checkpoints, broken reduction, broken data, a loss that explodes, a full disk. Nothing is
lost, and the message says what.
"""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dlsvc.errors import Refused
from dlsvc.store import checkpoint
from dlsvc.store.driver import driving
from dlsvc.store.runs import RunStore
from dlsvc.train.prepare import open_run, prepare_job
from tests.engine.processes import run_group
from tests.train.trials import resident_work, spec_of, train_in_group

CHANGES: dict[str, Any] = {"strategy": "ddp", "scaling__workers": 2, "budget__steps": 30, "checkpoint__every_steps": 10}


@pytest.fixture(scope="module")
def expected(home: Path) -> str:
    """The digest of the run that nothing happens to."""
    return str(train_in_group(spec_of("lenet5", **CHANGES), home, run_name="calm", world_size=2)["weights_sha256"])


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 4
    path.write_bytes(body)


def _swap(path: Path) -> None:
    other = path.with_name("rank-00001.safetensors")
    mine, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(mine)


FAULTS = {
    "shard truncated": ("rank-00000.safetensors", _half),
    "shard flipped": ("rank-00001.safetensors", _flip),
    "shard deleted": ("rank-00000.safetensors", Path.unlink),
    "shards swapped": ("rank-00000.safetensors", _swap),
    "manifest truncated": ("MANIFEST.json", _half),
    "manifest deleted": ("MANIFEST.json", Path.unlink),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_checkpoint_is_passed_over_and_named(fault: str, home: Path, expected: str) -> None:
    name = fault.replace(" ", "-")
    spec = spec_of("lenet5", **CHANGES)
    train_in_group(spec, home, run_name=name, world_size=2, stop_after=2)
    run = RunStore(home).open(name)
    file, breaks = FAULTS[fault]
    breaks(checkpoint.directory(run.checkpoints, 20) / file)
    last = train_in_group(spec, home, run_name=name, world_size=2)
    resumed = run.lines("attempts.jsonl")[-1]
    assert resumed["start_step"] == 10
    assert file in resumed["rejected"][0]
    assert last["weights_sha256"] == expected


def test_no_good_checkpoint_ends_the_run(home: Path) -> None:
    spec = spec_of("lenet5", **CHANGES)
    train_in_group(spec, home, run_name="hopeless", world_size=2, stop_after=2)
    run = RunStore(home).open("hopeless")
    for shard in run.checkpoints.glob("step-*/rank-00000.safetensors"):
        shard.unlink()
    with pytest.raises(AssertionError, match="none can be trusted"):
        train_in_group(spec, home, run_name="hopeless", world_size=2)
    assert run.read("fatal.json")["kind"] == "CheckpointError"


def test_another_spec_under_the_same_name_is_refused(home: Path, expected: str) -> None:
    with pytest.raises(Refused, match="seed: 7 -> 8"):
        open_run(spec_of("lenet5", **{**CHANGES, "seed": 8}), "calm", home)


def test_the_second_driver_of_a_run_is_refused_before_it_does_anything(home: Path) -> None:
    """Also when it looked before the first said that it is running."""
    from dlsvc.train.launch import train

    spec, run = open_run(spec_of("lenet5", **CHANGES), "driven", home)
    with driving(run.path), pytest.raises(Refused, match="'driven' is running"):
        train(spec, run_name="driven", show_progress=False)
    assert run.status()["status"] == "unknown"


def _without_reduction(rank: int, world_size: int, job: Any) -> str:
    from dlsvc.engine.ddp import DDPEngine
    from dlsvc.errors import RanksDiverged

    plain = DDPEngine._reduce_round

    def broken(self: DDPEngine, phase: Any) -> None:
        if rank == 1:
            for parameter in self._parameters(phase):
                parameter.grad *= 0.5
        plain(self, phase)

    DDPEngine._reduce_round = broken
    try:
        resident_work(job)
    except RanksDiverged as error:
        return str(error)
    return "nothing was noticed"


def test_disabled_reduction_ends_the_run_within_two_steps(home: Path) -> None:
    spec, run = open_run(spec_of("lenet5", **CHANGES), "diverged", home)
    messages = run_group(2, _without_reduction, prepare_job(spec, run, home))
    assert all(message.startswith("at step 1 the gradient to be applied") for message in messages)
    assert run.read("fatal.json")["kind"] == "RanksDiverged"


def test_exploding_loss_ends_the_run(home: Path) -> None:
    spec = spec_of("lenet5", **{**CHANGES, "optim": {"name": "sgd", "lr": 1e30}})
    with pytest.raises(AssertionError, match="loss is not finite.*optim.lr"):
        train_in_group(spec, home, run_name="explodes", world_size=2)


def _with_full_disk(rank: int, world_size: int, job: Any) -> str:
    from dlsvc.errors import CheckpointError

    def full(*arguments: Any, **keywords: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    plain, saves = checkpoint.save_file, []

    def save(*arguments: Any, **keywords: Any) -> None:
        saves.append(1)
        (plain if len(saves) < 2 else full)(*arguments, **keywords)

    checkpoint.save_file = save
    try:
        resident_work(job)
    except CheckpointError as error:
        return str(error)
    return "no error"


def test_full_disk_ends_the_run_and_loses_nothing(home: Path, expected: str) -> None:
    spec, run = open_run(spec_of("lenet5", **CHANGES), "full-disk", home)
    messages = run_group(2, _with_full_disk, prepare_job(spec, run, home))
    assert all("No space left" in message for message in messages)
    (run.path / "fatal.json").unlink()
    assert train_in_group(spec, home, run_name="full-disk", world_size=2)["weights_sha256"] == expected


def _raising(rank: int, world_size: int, job: Any, messages: tuple[str, ...]) -> str:
    """Rank 1 fails in its third step, with one message after the other."""
    from dlsvc.train import loop

    plain, lives = loop.run_phase, len(job.run.lines("attempts.jsonl"))

    def run_phase(*arguments: Any, **options: Any) -> None:
        if rank == 1 and options["step"] == 3:
            raise RuntimeError(messages[lives])
        plain(*arguments, **options)

    loop.run_phase = run_phase
    resident_work(job)
    return "no error"


@pytest.mark.parametrize(
    ("messages", "condemned_after"),
    [
        (("shapes differ",) * 3, 2),
        (("shapes differ", "another", "shapes differ"), None),
        (("[gloo/pair.cc] Connection closed by peer",) * 3, None),
    ],
)
def test_a_failure_that_comes_again_at_the_same_place_ends_the_run(
    messages: tuple[str, ...], condemned_after: int | None, home: Path
) -> None:
    name = f"again-{messages[0][:3]}-{messages[1][:3]}".replace("[", "")
    spec, run = open_run(spec_of("lenet5", **CHANGES), name, home)
    job = prepare_job(spec, run, home)
    for life in range(1, 4):
        if run.condemned:
            break
        with pytest.raises(AssertionError, match="shapes differ|another|closed by peer"):
            run_group(2, _raising, job, messages)
        assert run.condemned == (life == condemned_after)
    if condemned_after:
        fatal = run.read("fatal.json")["message"]
        assert "the same failure twice from step 0 on: RuntimeError: shapes differ" in fatal
        assert "test_faults.py" in fatal


def _folder(path: Path, *, good: int, bad: int) -> Path:
    """Two classes of 12-pixel images, of which `bad` are no images."""
    draws = np.random.default_rng(0)
    for number in range(good + bad):
        file = path / "train" / ("dark", "light")[number % 2] / f"{number:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = draws.integers(0, 100, (12, 12)) + 150 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(file)
        if number < bad:
            file.write_bytes(b"<html>not an image</html>")
    shutil.copytree(path / "train", path / "test")
    return path


def _folder_spec(path: Path, limit: float) -> Any:
    data = {
        "source": str(path),
        "image": {"size": 12, "channels": 1, "mean": [0.5], "std": [0.5]},
        "max_bad_fraction": limit,
    }
    model = {"name": "lenet5", "args": {"image_size": 12, "num_classes": 2}}
    batch = {"global_size": 16, "micro_size": 8}
    return spec_of("lenet5", **{**CHANGES, "data": data, "model": model, "batch": batch, "budget": {"steps": 10}})


def test_undecodable_images_are_quarantined(home: Path, tmp_path: Path) -> None:
    spec = _folder_spec(_folder(tmp_path / "few", good=60, bad=2), 0.1)
    assert train_in_group(spec, home, run_name="few-bad", world_size=2)["metrics"]["accuracy"] > 0.5
    found = {Path(bad["uri"]).name for bad in RunStore(home).open("few-bad").lines("quarantine.jsonl")}
    assert found == {"000.png", "001.png"}


def test_too_many_undecodable_images_end_the_run(home: Path, tmp_path: Path) -> None:
    spec = _folder_spec(_folder(tmp_path / "many", good=20, bad=20), 0.01)
    with pytest.raises(AssertionError, match="max_bad_fraction"):
        train_in_group(spec, home, run_name="many-bad", world_size=2)
