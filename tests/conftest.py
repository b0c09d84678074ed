"""One Ray cluster and one home for a whole test session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from dlsvc.environment import prepare

# The same examples every time, and no verdict on how fast a busy machine tries them.
settings.register_profile("dlsvc", deadline=None, derandomize=True)
settings.load_profile("dlsvc")

# Before anything imports Ray: it reads its authentication mode at import.
os.environ.setdefault("DLSVC_TEST_HOME", str(Path("~/.cache/dlsvc-tests").expanduser()))
os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
prepare(Path(os.environ["DLSVC_TEST_HOME"]))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Results depend on the number of threads; workers have one, and so do tests."""
    import torch

    torch.set_num_threads(1)


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
