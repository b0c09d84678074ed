from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dlsvc.augment.pipeline import Pipeline
from dlsvc.augment.text import RandomDeletion, SynonymReplacement
from dlsvc.data.codecs import Undecodable, together
from dlsvc.data.fit import build_preprocess
from dlsvc.data.image_input import ImageInput
from dlsvc.data.preprocess import FeatureInput, Preprocess
from dlsvc.data.source import open_source
from dlsvc.data.text_input import TextInput
from dlsvc.data.tokenizer import UNK_ID, ByteTokenizer, WordTokenizer
from dlsvc.errors import DataError
from dlsvc.spec.schema import DataSpec

Encode = Callable[..., bytes]

FULL = Preprocess(
    image=ImageInput(8, 3, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    features=FeatureInput(("a", "b"), (1.0, 2.0), (0.5, 4.0)),
    text=TextInput(WordTokenizer(("cat", "dog")), 6),
    classes=("not x", "x"),
    positive=3,
    prompt="a {label}",
    source="mine",
)

repeatable = settings(deadline=None, derandomize=True, database=None, max_examples=40)


def built(name: str, home: Path, **data: object) -> Preprocess:
    spec = DataSpec.model_validate({"source": name, **data})
    return build_preprocess(spec, open_source(spec, home))


@pytest.mark.parametrize(
    "preprocess", [FULL, Preprocess(), Preprocess(text=TextInput(ByteTokenizer(), 4)), Preprocess(classes=("a", "b"))]
)
def test_json_round_trip(preprocess: Preprocess) -> None:
    assert Preprocess.from_json(json.loads(json.dumps(preprocess.to_json()))) == preprocess


@pytest.mark.parametrize("state", [{}, {"image": 3, "features": None, "text": None, "classes": [], "positive": None}])
def test_state_that_is_none_of_ours(state: dict[str, object]) -> None:
    with pytest.raises(DataError, match="not the state of a preprocess"):
        Preprocess.from_json(state)


@repeatable
@given(
    arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 10), st.integers(1, 10))),
    st.sampled_from([1, 3]),
    st.integers(1, 9),
)
def test_images_have_shape_dtype_and_range(images: np.ndarray, channels: int, size: int) -> None:
    preprocess = Preprocess(image=ImageInput(size, channels, (0.5,), (0.5,)))
    decoded, bad = preprocess.decode({"image": images})
    assert not bad
    assert decoded["image"].shape == (len(images), size, size, channels)
    batch = preprocess.finish(decoded)["image"]
    assert batch.shape == (len(images), channels, size, size)
    assert batch.dtype == np.float32
    assert batch.flags.c_contiguous
    assert -1 <= batch.min() <= batch.max() <= 1


@repeatable
@given(arrays(np.uint8, (2, 5, 5, 3)))
def test_normalising_is_the_formula(images: np.ndarray) -> None:
    part = FULL.image
    assert part is not None
    expected = ((images / 255 - np.asarray(part.mean)) / np.asarray(part.std)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(part.normalise(images), expected, rtol=1e-6, atol=1e-7)


def test_request_takes_the_same_path_as_training(data_home: Path) -> None:
    preprocess = built("emoji", data_home, text={"tokenizer": "word", "max_seq_len": 12, "vocab_size": 512})
    rows = open_source(DataSpec(source="emoji"), data_home).table("test").rows(np.arange(5))
    trained = preprocess.finish(preprocess.decode(rows)[0])
    inputs = [{"image": image, "text": text} for image, text in zip(rows["image"], rows["text"], strict=True)]
    served = preprocess.from_request(inputs)
    assert {"image", "tokens", "attention_mask"} == set(served) == set(trained) - {"label"}
    assert all((served[name] == trained[name]).all() for name in served)
    assert preprocess.from_request(inputs[:1]).keys() == served.keys()
    assert set(preprocess.from_request([{"text": "a cat"}])) == {"tokens", "attention_mask"}


def test_features_are_standardised_by_the_training_split(data_home: Path) -> None:
    preprocess = built("iris", data_home)
    table = open_source(DataSpec(source="iris"), data_home).table("train")
    arrays, _ = preprocess.decode(table.rows(np.arange(len(table))))
    features = preprocess.finish(arrays)["features"]
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(features.std(axis=0), 1, atol=1e-5)
    served = preprocess.from_request([{"features": [5.1, 3.5, 1.4, 0.2]}])["features"]
    assert (served[0] == features[0]).all()


def test_constant_feature_becomes_zero(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y,label\n" + "\n".join(f"{row},7,{row % 2}" for row in range(50)))
    preprocess = built(str(tmp_path / "a.csv"), tmp_path)
    assert preprocess.from_request([{"features": [1, 7]}])["features"][0, 1] == 0


def test_positive_class_makes_two(data_home: Path) -> None:
    preprocess = built("iris", data_home, positive="versicolor")
    assert preprocess.classes == ("not versicolor", "versicolor")
    arrays, _ = preprocess.decode({"features": np.zeros((3, 4), np.float32), "label": np.asarray([0, 1, 2])})
    assert arrays["label"].tolist() == [0, 1, 0]
    with pytest.raises(DataError, match=r"data\.positive.*did you mean 'setosa'"):
        built("iris", data_home, positive="setos")


def test_a_prompt_makes_texts_of_classes(data_home: Path) -> None:
    preprocess = built("digits", data_home, text={"prompt": "a photo of a {label}", "max_seq_len": 8})
    rows = open_source(DataSpec(source="digits"), data_home).table("train").rows(np.asarray([0, 7]))
    samples, bad = preprocess.decode(rows)
    assert not bad
    assert samples["text"] == [f"a photo of a {label}" for label in rows["label"]]
    tokens = preprocess.finish(samples)["tokens"]
    assert UNK_ID not in tokens
    asked = preprocess.from_request([{"text": samples["text"][1]}])["tokens"]
    assert np.array_equal(asked[0], tokens[1])
    assert Preprocess.from_json(json.loads(json.dumps(preprocess.to_json()))) == preprocess


def test_a_prompt_never_replaces_texts_and_needs_classes(data_home: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.text\.prompt is set and the data has texts of its own"):
        built("emoji", data_home, text={"prompt": "a {label}"})
    (tmp_path / "it.csv").write_text("a,b\n1,2\n3,4\n")
    with pytest.raises(DataError, match=r"data\.text\.prompt is set and the data has no classes"):
        built(f"{tmp_path}/it.csv", data_home, text={"prompt": "a {label}"})


def test_catalog_gives_what_the_spec_leaves_out(data_home: Path) -> None:
    assert built("digits", data_home).image == ImageInput(8, 1, (0.3052,), (0.3749,))
    asked = {"size": 32, "channels": 3, "mean": [0.5], "std": [0.25]}
    assert built("digits", data_home, image=asked).image == ImageInput(32, 3, (0.5,), (0.25,))
    assert built("emoji", data_home).text is None


def test_a_vocabulary_has_the_synonyms_that_augmentations_bring_in(tmp_path: Path) -> None:
    rows = [json.dumps({"text": "a cat sleeps", "label": row % 2}) for row in range(40)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    spec = DataSpec.model_validate({"source": str(tmp_path / "a.jsonl"), "text": {"tokenizer": "word"}})
    source = open_source(spec, tmp_path)
    synonyms = SynonymReplacement(alpha=0.4).with_resources({"lexicon": {"cat": ("feline", "tabby")}})
    plain, wide = (build_preprocess(spec, source, Pipeline(one)).text for one in ((RandomDeletion(),), (synonyms,)))
    assert plain is not None
    assert wide is not None
    assert plain.tokenizer == WordTokenizer(("a", "cat", "sleeps"))
    assert UNK_ID not in wide.tokenizer.encode("a feline tabby cat")


def test_text_without_a_text_column(data_home: Path) -> None:
    with pytest.raises(DataError, match=r"data\.text\.column: the data has no text column; it has image, label"):
        built("digits", data_home, text={"tokenizer": "byte"})


def test_bad_rows_are_named_and_hold_zeros(encoded: Encode) -> None:
    preprocess = Preprocess(image=ImageInput(4, 3, (0.5,), (0.5,)))
    rows = {"image": [encoded(), b"", encoded()[:40]], "uri": ["a#1", "a#2", "a#3"], "label": np.asarray([1, 2, 3])}
    arrays, bad = preprocess.decode(rows)
    assert [(row.position, row.uri) for row in bad] == [(1, "a#2"), (2, "a#3")]
    assert bad[0].reason == "the file is empty"
    assert arrays["image"].any(axis=(1, 2, 3)).tolist() == [True, False, False]
    with pytest.raises(Undecodable):
        preprocess.decode_one(b"")


def test_several_images_of_a_sample(encoded: Encode) -> None:
    """Its own, then black ones; each normalised as one alone; more than fit make the sample a bad one."""
    one = ImageInput(4, 3, (0.5,) * 3, (0.25,) * 3)
    several = Preprocess(image=replace(one, count=3))
    files = [encoded(colour=colour) for colour in ("red", "blue", "green", "white")]
    rows = {"image": [together(files[:2]), files[2], together(files)], "uri": ["a", "b", "c"]}
    samples, bad = several.decode(rows)
    assert [(row.uri, row.reason) for row in bad] == [("c", "the sample has 4 images, and up to 3 are read")]
    batch = several.finish(samples)["image"]
    assert batch.shape == (3, 3, 3, 4, 4)
    alone = one.normalise(np.stack([one.decode(file) for file in files]))
    np.testing.assert_array_equal(batch[0], [*alone[:2], np.full((3, 4, 4), -2, np.float32)])
    np.testing.assert_array_equal(batch[1, 0], alone[2])
    asked = several.from_request([{"image": files[:2]}, {"image": files[2]}])["image"]
    np.testing.assert_array_equal(asked, batch[:2])
    with pytest.raises(DataError, match="input 0, image: the sample has 2 images, and one is read"):
        Preprocess(image=one).from_request([{"image": files[:2]}])
    assert Preprocess.from_json(json.loads(json.dumps(several.to_json()))) == several


def test_missing_column_names_those_there() -> None:
    with pytest.raises(DataError, match="no image column; it has label"):
        FULL.decode({"label": np.zeros(1, np.int64)})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "no input"),
        ([{"text": "a"}, {}], "input 1: holds nothing; this model reads image or features or text"),
        ([{"text": "a"}, {"audio": b""}], "input 1: holds audio"),
        ([{"text": "a"}, {"features": [1, 2]}], "input 1: holds features, and input 0 text"),
        ([{"features": [1, 2]}, {"features": [1]}], "input 1, features: 1 numbers, not 2: a, b"),
        ([{"features": [1, float("nan")]}], "input 0, features: a number that isn't finite"),
        ([{"features": ["x", 1]}], "input 0, features"),
        ([{"features": [[1], [2, 3]]}], "input 0, features"),
        ([{"text": 3}], "input 0, text: a text must be a string, not int"),
        ([{"image": "pixels"}], "input 0, image: an image must be an encoded file's bytes, not str"),
        ([{"image": b"pixels"}], "input 0, image: not a PNG"),
    ],
)
def test_wrong_request_names_its_index(inputs: list[dict[str, object]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        FULL.from_request(inputs)
