"""Every registered model at its tiny size gives the same bits under every strategy."""

from __future__ import annotations

import pytest

from dlsvc.engine.base import Place
from dlsvc.nn.device import open_device
from tests.engine.processes import run_group
from tests.models.every import SHAPES
from tests.models.steps import STRATEGIES, digest_after_steps


def _digests(rank: int, world_size: int, name: str, strategies: tuple[str, ...]) -> dict[str, str]:
    place = Place(rank, world_size, open_device("cpu"))
    return {strategy: digest_after_steps(name, strategy, place) for strategy in strategies}


# Of attention's similarities, of losses and of queues, which differ little, one is enough for every day.
_SLOW = ("vit, dot", "vit, general", "vit, kernel", "vit, patch dropout", "gan, hinge", "blip2_qformer, queue")
# So is one of the two stages that split in the same way.
_DAILY = ("ddp", "fsdp", "zero2", "zero3")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in _SLOW else ()) for name in SHAPES]
)
def test_strategies_give_one_digest_at_two_workers(name: str) -> None:
    found = run_group(2, _digests, name, _DAILY)[0]
    assert found == dict.fromkeys(_DAILY, found["ddp"])


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_all_five_strategies_give_one_digest_at_two_workers(name: str) -> None:
    found = run_group(2, _digests, name, STRATEGIES)[0]
    assert found == dict.fromkeys(STRATEGIES, found["ddp"])
