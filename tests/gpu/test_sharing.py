"""Workers that share a GPU, without Ray: a model of one is a model of any number."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlsvc.engine.base import Place
from dlsvc.nn.device import open_device
from tests.engine.processes import run_group
from tests.models.steps import STRATEGIES, digest_after_steps
from tests.train.test_exactness import everything
from tests.train.trials import killed_in_group, spec_of, train_in_group

pytestmark = pytest.mark.gpu

# On data that comes with a package.
SYSTEMS = ("lenet5", "resnet34", "vit", "vae", "gan")
ON_A_GPU = {"scaling": {"resources": {"cpu": 1, "gpu": 0.25}}, "budget__steps": 12, "checkpoint__every_steps": 5}


@pytest.mark.parametrize("system", SYSTEMS)
def test_exact_reduction_gives_one_model_for_any_number_of_workers(system: str, home: Path) -> None:
    found = {}
    for count in (1, 2, 3):
        spec = spec_of(system, batch__reduce="exact", strategy="plain" if count == 1 else "ddp", **ON_A_GPU)
        name = f"gpu-exact-{system}-{count}"
        train_in_group(spec, home, run_name=name, world_size=count)
        found[count] = everything(home, name)
    assert found == dict.fromkeys(found, found[1])


@pytest.mark.parametrize("system", ["vit", "gan"])
def test_killed_in_the_middle_of_a_phase_changes_nothing(system: str, home: Path) -> None:
    spec = spec_of(system, strategy="ddp", **ON_A_GPU)
    train_in_group(spec, home, run_name=f"gpu-calm-{system}", world_size=2)
    killed_in_group(spec, home, run_name=f"gpu-killed-{system}", world_size=2, step=8)
    train_in_group(spec, home, run_name=f"gpu-killed-{system}", world_size=2)
    assert everything(home, f"gpu-killed-{system}") == everything(home, f"gpu-calm-{system}")


def _digests(rank: int, world_size: int, name: str) -> dict[str, str]:
    place = Place(rank, world_size, open_device("cuda"))
    return {strategy: digest_after_steps(name, strategy, place) for strategy in STRATEGIES}


@pytest.mark.parametrize("name", ["resnet34", "gan", "blip, queue", "latent_diffusion", "llava"])
def test_strategies_give_one_digest_at_two_workers(name: str) -> None:
    found = run_group(2, _digests, name)[0]
    assert found == dict.fromkeys(STRATEGIES, found["ddp"])
