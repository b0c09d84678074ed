"""A sample's prediction depends on nothing but the sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dlsvc.data.codecs import encode_png
from dlsvc.errors import DataError
from dlsvc.predictor import BATCH_SIZE, Predictor
from dlsvc.tasks.super_resolution import in_unit_range
from tests.serving.client import chirp, film, picture


def _inputs(name: str, count: int) -> list[dict[str, Any]]:
    random = np.random.default_rng(1)
    kinds: dict[str, list[Any]] = {
        "lenet5": [lambda seed: {"image": picture(seed)}],
        "vae": [lambda seed: {"image": picture(seed)}, lambda seed: {"seed": seed}],
        "gan": [lambda seed: {"seed": seed}],
        "ddpm": [lambda seed: {"seed": seed}, lambda seed: {"seed": seed, "class": str(seed % 10)}],
        "prompted": [
            lambda seed: {"text": f"a picture of a {seed % 10}", "seed": seed},
            lambda seed: {"text": "a 3", "negative": "a 4", "guidance": float(seed), "steps": 1 + seed % 3},
            lambda seed: {"text": "a 3", "image": picture(seed), "strength": 0.4 if seed % 2 else 0.9},
            lambda seed: {"text": "a 3", "image": picture(seed), "mask": picture(seed + 1)},
        ],
        "clip": [
            lambda seed: {"image": picture(seed, 3)},
            lambda seed: {"text": f"picture {'of a cat ' * seed}", "truncate": True},
        ],
        "iris": [lambda seed: {"features": random.normal(size=4).tolist()}],
        "speech": [lambda seed: {"audio": chirp(seed)}],
        "film": [lambda seed: {"video": film(seed, 1 + seed % 6)}],
        "watch": [lambda seed: {"series": random.normal(size=(200, 6)).tolist()}],
        "novel": [
            lambda seed: {"text": f"She was {'very ' * (seed % 4)}", "seed": seed},
            lambda seed: {"text": "It is", "seed": seed, "temperature": 1.0, "top_p": 0.9, "max_new_tokens": 1 + seed},
        ],
        "french": [lambda seed: {"text": f"open {'the ' * (seed % 4)}file"}, lambda seed: {"text": "", "num_beams": 2}],
        "hidden": [
            lambda seed: {"text": f"a {'very ' * seed}large cat", "truncate": True},
            lambda seed: {"text": "a <mask> cat"},
        ],
        "chat": [
            lambda seed: {"text": f"is it {'very ' * (seed % 3)}red?", "image": picture(seed, 3)},
            lambda seed: {"text": "what is it?", "seed": seed, "temperature": 1.0},
            lambda seed: {"text": "is <image> red as <image>", "image": [picture(seed, 3), picture(seed + 1, 3)]},
        ],
        "captions": [
            lambda seed: {"image": picture(seed, 3)},
            lambda seed: {"text": f"an emoji of {'a ' * (seed % 3)}cat"},
            lambda seed: {"text": "an emoji of a cat", "image": picture(seed, 3)},
        ],
        "glosses": [lambda seed: {"text": f"a {'very ' * seed}large cat"}],
        "words": [lambda seed: {"text": f"a {'very ' * (seed % 4)}large cat"}],
    }
    return [kinds[name][place % len(kinds[name])](place) for place in range(count)]


NAMES = (
    *("lenet5", "vae", "gan", "ddpm", "prompted", "clip", "iris", "speech", "glosses"),
    *("film", "watch", "novel", "french", "hidden", "chat", "captions", "words"),
)


@pytest.mark.parametrize("name", NAMES)
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


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": 0}, "input 0: steps must be a whole number from 1 to 1000, not 0"),
        ({"steps": 2.5}, "steps must be a whole number"),
        ({"guidance": -1.0}, "guidance must be a number from 0 to 100, not -1"),
        ({"image": picture(0), "strength": 1.5}, "strength must be a number from 0.01 to 1, not 1.5"),
        ({"image": picture(0), "mask": b"no"}, "input 0, mask: not a PNG"),
    ],
)
def test_a_bad_setting_is_named(given: dict[str, Any], message: str, predictors: dict[str, Predictor]) -> None:
    with pytest.raises(DataError, match=message):
        predictors["prompted"].predict([{"text": "a 3", **given}])


def test_what_a_mask_leaves_out_stays(predictors: dict[str, Predictor]) -> None:
    nothing, everything = (encode_png(np.full((16, 16, 3), value, np.uint8)) for value in (0, 255))
    asked = {"image": picture(0), "text": "a 3"}
    kept, other_seed, made = predictors["prompted"].predict(
        [{**asked, "mask": nothing}, {**asked, "mask": nothing, "text": "a 4"}, {**asked, "mask": everything}]
    )
    assert np.array_equal(kept["image"], other_seed["image"])
    assert not np.allclose(kept["image"], made["image"], atol=0.01)


def test_a_bad_sound_is_named(predictors: dict[str, Predictor]) -> None:
    with pytest.raises(DataError, match="input 1, audio: damaged sound"):
        predictors["speech"].predict([{"audio": chirp(0)}, {"audio": chirp(0)[:100]}])


def test_an_input_that_the_model_does_not_read_is_refused(predictors: dict[str, Predictor]) -> None:
    with pytest.raises(DataError, match="this model reads features"):
        predictors["iris"].predict([{"image": picture(0)}])


def test_no_input_has_no_prediction(predictors: dict[str, Predictor]) -> None:
    assert predictors["iris"].predict([]) == []


def test_a_series_that_is_none_is_named(predictors: dict[str, Predictor]) -> None:
    steps = [[0.0] * 6 for _ in range(200)]
    with pytest.raises(
        DataError, match=r"input 0, series: a series of shape \(10, 6\); the model reads 200 steps of 6"
    ):
        predictors["watch"].predict([{"series": steps[:10]}])
    steps[3][1] = float("nan")
    with pytest.raises(DataError, match="step 3 of ay isn't a finite number"):
        predictors["watch"].predict([{"series": steps}])
    with pytest.raises(DataError, match="not a list of steps"):
        predictors["watch"].predict([{"series": [[0.0] * 6, [0.0] * 5]}])


def test_a_film_that_is_none_is_named(predictors: dict[str, Predictor]) -> None:
    with pytest.raises(DataError, match="input 0, video: not a PNG"):
        predictors["film"].predict([{"video": b"no"}])
    upright = encode_png(np.zeros((30, 20, 3), np.uint8))
    with pytest.raises(DataError, match="30 x 20 pixels aren't square frames one below the other"):
        predictors["film"].predict([{"video": upright}])


def test_a_text_too_long_to_go_on_from_is_named(predictors: dict[str, Predictor]) -> None:
    with pytest.raises(DataError, match="input 1, text: .* tokens, its ends included, and the model reads at most 24"):
        predictors["novel"].predict([{"text": "She"}, {"text": "She was very tired. " * 9}])


def test_turns_of_a_conversation(predictors: dict[str, Predictor]) -> None:
    turns = [
        {"from": "human", "value": "is it red?"},
        {"from": "gpt", "value": "yes"},
        {"from": "human", "value": "is it a circle?"},
    ]
    (found,) = predictors["chat"].predict([{"image": picture(0, 3), "text": turns}])
    assert isinstance(found["text"], str)
    for wrong, message in (
        (turns[:2], "human first and last"),
        (turns[1:], "human first and last"),
        ([{"role": "user"}], "a list of turns, each"),
        ("<image> <image>", "<image> stands 2 times in it, and it comes with 1 images"),
    ):
        with pytest.raises(DataError, match=f"input 0, text: .*{message}"):
            predictors["chat"].predict([{"image": picture(0, 3), "text": wrong}])
    with pytest.raises(DataError, match="input 0, image: the sample has 3 images, and up to 2 are read"):
        predictors["chat"].predict([{"image": [picture(place, 3) for place in range(3)], "text": "is it red?"}])
    with pytest.raises(DataError, match="comes with 0 images"):
        predictors["chat"].predict([{"text": "<image> is it red?"}])


def test_a_seed_decides_what_is_drawn(predictors: dict[str, Predictor]) -> None:
    asked = [{"text": "She", "seed": seed, "temperature": 2.0} for seed in (1, 1, 2)]
    first, again, other = (row["text"] for row in predictors["novel"].predict(asked))
    assert first == again != other


def test_an_image_is_enlarged_from_its_own_size_as_in_evaluation(predictors: dict[str, Predictor]) -> None:
    """Evaluation reads images made small; a request has the small one, of any size, beside others of other sizes."""
    predictor = predictors["sharper"]
    sizes = [(16, 16), (12, 10), (7, 30)]
    given = [np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    rows = predictor.predict([{"image": encode_png(pixels)} for pixels in given])
    for pixels, row in zip(given, rows, strict=True):
        small = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255 * 2 - 1
        with torch.inference_mode():
            wanted = in_unit_range(predictor.modules["model"](small))[0].permute(1, 2, 0).numpy()
        assert row["image"].shape == (2 * pixels.shape[0], 2 * pixels.shape[1], 3)
        np.testing.assert_allclose(row["image"], wanted, atol=1e-6)
    with pytest.raises(DataError, match="400 x 400; one of up to 131,072 pixels is enlarged"):
        predictor.predict([{"image": encode_png(np.zeros((400, 400, 3), np.uint8))}])
