"""A sample's prediction depends on nothing but the sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlsvc.errors import DataError
from serving.predictor import BATCH_SIZE, Predictor
from tests.serving.client import chirp, picture


def _inputs(name: str, count: int) -> list[dict[str, Any]]:
    random = np.random.default_rng(1)
    kinds: dict[str, list[Any]] = {
        "lenet5": [lambda seed: {"image": picture(seed)}],
        "vae": [lambda seed: {"image": picture(seed)}, lambda seed: {"seed": seed}],
        "gan": [lambda seed: {"seed": seed}],
        "ddpm": [lambda seed: {"seed": seed}, lambda seed: {"seed": seed, "class": str(seed % 10)}],
        "clip": [lambda seed: {"image": picture(seed, 3)}, lambda seed: {"text": f"picture {'of a cat ' * seed}"}],
        "iris": [lambda seed: {"features": random.normal(size=4).tolist()}],
        "speech": [lambda seed: {"audio": chirp(seed)}],
        "glosses": [lambda seed: {"text": f"a {'very ' * seed}large cat"}],
    }
    return [kinds[name][place % len(kinds[name])](place) for place in range(count)]


@pytest.mark.parametrize("name", ["lenet5", "vae", "gan", "ddpm", "clip", "iris", "speech", "glosses"])
def test_an_answer_is_the_same_alone_and_in_any_batch(name: str, predictors: dict[str, Predictor]) -> None:
    predictor, inputs = predictors[name], _inputs(name, 2 * BATCH_SIZE + 3)
    alone = [predictor.predict([item])[0] for item in inputs]
    for order in (range(len(inputs)), np.random.default_rng(0).permutation(len(inputs))):
        together = predictor.predict([inputs[place] for place in order])
        for place, found in zip(order, together, strict=True):
            assert found.keys() == alone[place].keys()
            assert all(np.array_equal(found[key], alone[place][key]) for key in found)


def test_a_bad_input_is_named(predictors: dict[str, Predictor]) -> None:
    with pytest.raises(DataError, match="input 1, image: not a PNG"):
        predictors["lenet5"].predict([{"image": picture(0)}, {"image": b"no"}])


def test_a_bad_sound_is_named(predictors: dict[str, Predictor]) -> None:
    with pytest.raises(DataError, match="input 1, audio: damaged sound"):
        predictors["speech"].predict([{"audio": chirp(0)}, {"audio": chirp(0)[:100]}])


def test_an_input_that_the_model_does_not_read_is_refused(predictors: dict[str, Predictor]) -> None:
    with pytest.raises(DataError, match="this model reads features"):
        predictors["iris"].predict([{"image": picture(0)}])


def test_no_input_has_no_prediction(predictors: dict[str, Predictor]) -> None:
    assert predictors["iris"].predict([]) == []
