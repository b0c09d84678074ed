"""`dlsvc predict`: what it refuses. What it answers is compared with a server in test_server."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlsvc.data.codecs import decode_mask
from dlsvc.errors import DataError, NotFound, UsageError
from serving.predict import predict_command, read_parameters
from tests.serving.client import chirp, film, picture
from tests.serving.conftest import publish


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("iris", {}, "give one of"),
        ("iris", {"features": [1, 2, 3, 4], "seed": 1}, "features and seed"),
        ("iris", {"text": "a"}, "reads no text"),
        ("vae", {"features": [1]}, "reads no features"),
        ("clip", {"text": "a", "labels": ["a", "b"]}, "labels are for an image by itself, not for text"),
        ("captions", {"image": __file__, "text": "a", "labels": ["a", "b"]}, "by itself, not for image and text"),
        ("chat", {"image": __file__, "text": "a", "labels": ["a", "b"]}, "by itself, not for image and text"),
        ("prompted", {"image": __file__, "labels": ["a", "b"]}, "a latent-denoising model takes no labels"),
        ("chat", {"image": [__file__, __file__]}, "several images belong to a conversation: give .* with --text"),
        ("clip", {"image": __file__, "parameters": {"normalize": True}}, "without parameters, not with normalize"),
        ("captions", {"image": __file__, "parameters": {"top_k": 1}}, "takes no parameter 'top_k'"),
        ("gan", {"image": __file__, "parameters": {"seed": 1}}, "reads no images"),
        ("gan", {"image": __file__}, "reads no images"),
        ("vae", {"image": __file__, "seed": 1}, "give one of"),
        ("prompted", {"audio": __file__}, "reads no sounds"),
        ("lenet5", {"audio": __file__}, "classification reads no sounds; send an image's bytes"),
        ("speech", {"image": __file__}, "audio-classification reads no images; send a sound's bytes"),
        ("speech", {"text": "hello"}, "reads no text"),
        ("glosses", {"audio": __file__}, "reads no sounds; send JSON"),
        ("iris", {"series": __file__}, "reads no series"),
        ("lenet5", {"video": __file__}, "reads no films"),
        ("film", {"image": __file__}, "video-classification reads no images; send a film's bytes"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(
    model: str, arguments: dict[str, Any], message: str, published: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        predict_command(f"test-{model}", home=published, **arguments)


def test_a_file_that_cannot_be_used_is_a_data_error(published: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.png can't be read"):
        predict_command("test-lenet5", home=published, image=tmp_path / "nothing.png")
    with pytest.raises(DataError, match="not a WAV, FLAC, OGG sound"):
        predict_command("test-speech", home=published, audio=__file__)
    with pytest.raises(DataError, match="not a PNG"):
        predict_command("test-lenet5", home=published, image=__file__)


def test_a_sound_and_a_text_are_classified(published: Path, tmp_path: Path) -> None:
    (tmp_path / "it.wav").write_bytes(chirp(2))
    heard = predict_command("test-speech", home=published, audio=tmp_path / "it.wav")["answer"]
    assert {row["label"] for row in heard} == {"en", "es", "fr", "it", "ru"}
    (read,) = predict_command("test-glosses", home=published, text="a kind of tree")["answer"]
    assert {row["label"] for row in read} == {"noun", "verb", "adjective", "adverb"}


@pytest.mark.parametrize(("model", "known"), [("words", "large"), ("glove", "word03")])
def test_a_word_has_a_vector(model: str, known: str, published: Path) -> None:
    reference = publish(model, published)
    one, again, both = (
        predict_command(reference, home=published, text=text)["answer"] for text in (known, known, [known, "zzqx"])
    )
    assert one == again == both[0]
    assert any(one)
    assert not any(both[1])
    with pytest.raises(DataError, match="tokens, its ends included, and the model reads at most"):
        predict_command(reference, home=published, text=f"{known} " * 99)
    cut = predict_command(reference, home=published, text=f"{known} " * 99, parameters={"truncate": True})
    np.testing.assert_allclose(cut["answer"], one, rtol=1e-5)


def test_a_text_has_a_vector_where_distances_were_learned(home: Path) -> None:
    reference = publish("senses", home)
    one, both, unit = (
        predict_command(reference, home=home, text=text, parameters=parameters)["answer"]
        for text, parameters in (("a tree", {}), (["a tree", "to run"], {}), ("a tree", {"normalize": True}))
    )
    assert one == both[0] != both[1]
    np.testing.assert_allclose(unit, one / np.linalg.norm(one), rtol=1e-6)
    with pytest.raises(UsageError, match="text-embedding reads no images; send JSON"):
        predict_command(reference, home=home, image=__file__)


def test_a_film_a_series_and_a_translation(published: Path, tmp_path: Path) -> None:
    (tmp_path / "march.gif").write_bytes(film(1))
    seen = predict_command("test-film", home=published, video=tmp_path / "march.gif")["answer"]
    assert {row["label"] for row in seen} == {"attack", "die", "idle", "move"}
    (tmp_path / "wrist.json").write_text(json.dumps(np.ones((200, 6)).tolist()))
    felt = predict_command("test-watch", home=published, series=tmp_path / "wrist.json")["answer"]
    assert len(felt) == 5
    with pytest.raises(DataError, match=r"march\.gif is not JSON"):
        predict_command("test-watch", home=published, series=tmp_path / "march.gif")
    (said,) = predict_command("test-french", home=published, text="open the file", parameters={"num_beams": 2})[
        "answer"
    ]
    assert isinstance(said["translation_text"], str)


def test_a_question_about_two_pictures(published: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"{place}.png" for place in range(2)]
    for place, file in enumerate(files):
        file.write_bytes(picture(place, 3))
    asked = predict_command("test-chat", home=published, image=list(files), text="is it red?")
    one = predict_command("test-chat", home=published, image=files[0], text="is it red?")
    assert [len(found["answer"]) for found in (asked, one)] == [1, 1]
    with pytest.raises(UsageError, match="a segmentation model reads one image, not 2"):
        predict_command("test-nuclei", home=published, image=list(files))


def test_a_caption_is_searched_for_as_asked(published: Path, tmp_path: Path) -> None:
    """The image is what is written of, with parameters as without."""
    (tmp_path / "cat.png").write_bytes(picture(0, 3))
    usual, same = (
        predict_command("test-captions", home=published, image=tmp_path / "cat.png", parameters=parameters)["answer"]
        for parameters in ({}, {"num_beams": 3})
    )
    assert usual == same
    assert [set(row) for row in usual] == [{"generated_text"}]


def test_a_picture_is_segmented(published: Path, tmp_path: Path) -> None:
    (tmp_path / "cells.png").write_bytes(picture(0))
    found = predict_command("test-nuclei", home=published, image=tmp_path / "cells.png")["answer"]
    masks = [decode_mask(base64.b64decode(row["mask"]), 64) for row in found]
    assert (np.sum(masks, axis=0, dtype=int) == 255).all()  # every pixel is of one class
    assert {row["label"] for row in found} <= {"background", "nucleus"}


def test_an_unknown_model_is_not_found(published: Path) -> None:
    with pytest.raises(NotFound, match="did you mean"):
        predict_command("test-lenet", home=published, seed=1)


def test_a_seed_and_a_class_make_a_picture(published: Path, tmp_path: Path) -> None:
    asked = [{"text": "3", "seed": 1}, {"text": "3", "seed": 1}, {"text": "4", "seed": 1}, {"seed": 1}]
    found = [predict_command("test-ddpm", home=published, out=tmp_path / "it.png", **one)["sha256"] for one in asked]
    assert found[0] == found[1]
    assert len(set(found)) == 3
    with pytest.raises(DataError, match="no class is called 'there'"):
        predict_command("test-ddpm", home=published, text="there", seed=1)


def test_a_text_makes_a_picture(published: Path, tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_bytes(picture(2))
    (tmp_path / "from.png").write_bytes(picture(1))
    mask = read_parameters([f"mask_image=@{tmp_path / 'mask.png'}"])
    asked: list[dict[str, Any]] = [
        {"text": "a picture of a 3"},
        {"text": "a picture of a 3", "seed": 0},
        {"text": "a picture of a 3", "seed": 1},
        {"text": "a picture of a 3", "parameters": read_parameters(["guidance_scale=1.5", "negative_prompt=a 4"])},
        {"text": "a picture of a 3", "image": tmp_path / "from.png", "parameters": {"strength": 0.5}},
        {"text": "a picture of a 3", "image": tmp_path / "from.png", "parameters": mask},
        {"image": tmp_path / "from.png"},
    ]
    found = [
        predict_command("test-prompted", home=published, out=tmp_path / "it.png", **one)["sha256"] for one in asked
    ]
    assert found[0] == found[1]
    assert len(set(found)) == len(found) - 1
    with pytest.raises(UsageError, match="takes no parameter 'guidance'; did you mean 'guidance_scale'"):
        predict_command("test-prompted", home=published, text="a 3", parameters={"guidance": 2})
    with pytest.raises(UsageError, match="--parameter guidance_scale: write NAME=VALUE"):
        read_parameters(["guidance_scale"])


def test_a_picture_goes_where_it_is_asked_to(published: Path, tmp_path: Path) -> None:
    found = predict_command("test-gan", home=published, seed=1, out=tmp_path / "new" / "it.png")
    assert found["path"] == str(tmp_path / "new" / "it.png")
    assert (tmp_path / "new" / "it.png").read_bytes()[:4] == b"\x89PNG"


def test_words_have_vectors(home: Path) -> None:
    """Of several the mean, of one its own."""
    model = publish("words", home)
    one, other, both = predict_command(model, home=home, text=["a", "of", "a of"])["answer"]
    assert len(one) == 8
    np.testing.assert_allclose(both, np.mean([one, other], axis=0), rtol=1e-6)
    assert predict_command(model, home=home, text="a")["answer"] == one
