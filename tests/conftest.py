"""One Ray cluster and one home for a whole test session; and which tests run one after another in one process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

from dlsvc.environment import prepare

# The same examples every time, and no verdict on how fast a busy machine tries them.
settings.register_profile("dlsvc", deadline=None, derandomize=True)
settings.load_profile("dlsvc")

# Before anything imports Ray: it reads its authentication mode at import.
os.environ.setdefault("DLSVC_TEST_HOME", str(Path("~/.cache/dlsvc-tests").expanduser()))
os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
prepare(Path(os.environ["DLSVC_TEST_HOME"]))


# What a test file imports that starts groups of processes.
_GROUPS = {"run_group", "train_in_group"}


class _ByFile(LoadFileScheduling):  # type: ignore[misc]
    """A file's tests stay in one process, and so do all of tests/serving: they share a server that takes a minute to
    start.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return "tests/serving" if file.startswith("tests/serving/") else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _ByFile:
    return _ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that need Ray first, the server's before them, then those that start processes: what takes longest must not
    be left over for the end, when nothing is left to run beside it.
    """
    on_ray = {item.path for item in items if "ray_cluster" in getattr(item, "fixturenames", ())}
    with_groups = {item.path for item in items if _GROUPS & vars(getattr(item, "module", object)).keys()}
    items.sort(
        key=lambda item: (item.path.parent.name != "serving", item.path not in on_ray, item.path not in with_groups)
    )


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Results depend on the number of threads; workers have one, and so do tests."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _not_deterministic_yet() -> None:
    """A test begins as a process does. Whoever opened a device before it, a fixture of the session too, has all of the
    process compute repeatably, where some operations raise.
    """
    import torch

    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh $DLSVC_HOME whose pulled data sets are kept between sessions."""
    kept = Path(os.environ["DLSVC_TEST_HOME"]) / "data"
    kept.mkdir(parents=True, exist_ok=True)
    fresh = tmp_path_factory.mktemp("home")
    (fresh / "data").symlink_to(kept, target_is_directory=True)
    os.environ["DLSVC_HOME"] = str(fresh)
    return fresh


@pytest.fixture(scope="session")
def ray_cluster(home: Path) -> Iterator[None]:
    """Ray with more logical CPUs than cores, shared by every test that needs it."""
    from dlsvc.cluster import cluster

    with cluster(None, cpus=14):
        yield
