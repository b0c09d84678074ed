"""Converters on packages made here: what they take, what they leave, and which split it goes to."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dlsvc.data.catalog import entry, held_out
from dlsvc.data.convert import language, multimodal, rdata, signals, vision
from dlsvc.data.convert.rows import Read, Rows, columns_by_split

Encode = Callable[..., bytes]

STAMPS = "usr/share/tuxpaint/stamps/"


def reading(**packages: dict[str, bytes]) -> Read:
    """Packages by their names, - written as _, from what is in them."""

    def read(name: str, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
        return ((file, content) for file, content in packages[name.replace("-", "_")].items() if wanted(file))

    return read


def rows_of(rows: Rows) -> list[tuple[str, dict[str, Any]]]:
    return list(rows)


def test_columns_by_split_stack_arrays_and_keep_lists() -> None:
    rows = [("train", {"label": 1, "image": np.zeros((2, 2), np.uint8), "text": "a"}), ("test", {"label": 0})]
    found = columns_by_split(iter(rows))
    assert found["train"]["image"].shape == (1, 2, 2)
    assert found["train"]["label"].dtype == np.int64
    assert found["train"]["text"] == ["a"]
    assert found["test"]["label"].tolist() == [0]


# Language


def test_wordnet_line() -> None:
    noun = b'  1 This software\n00001740 03 n 02 living_thing 0 (p)being 0 003 ~ 0 n | alive; "a being"  \n'
    adjective = b"00002312 00 a 01 abaxial(p) 0 001 ! 0 a | facing away | or not\n"
    files = {"noun": noun, "verb": b"", "adj": adjective, "adv": b""}
    read = reading(wordnet_base={f"usr/share/wordnet/data.{name}": data for name, data in files.items()})
    (_, first), (_, second) = rows_of(language.CONVERTERS["wordnet"](entry("wordnet"), read))
    assert first["text"] == 'alive; "a being"'
    assert json.loads(first["lemmas"])[0] == "living thing"
    assert (first["label"], first["synset"]) == (0, "00001740n")
    assert json.loads(second["lemmas"]) == ["abaxial"]
    assert (second["label"], second["text"]) == (2, "facing away | or not")


def sword(texts: list[str]) -> dict[str, bytes]:
    """A module of one block a testament; the second testament has nothing in it."""
    packed = zlib.compress("".join(texts).encode())
    at = np.cumsum([0, *(len(text.encode()) for text in texts)])
    places = [struct.pack("<IIH", 0, at[place], len(text.encode())) for place, text in enumerate(texts)]
    one = {"bzv": b"".join(places), "bzs": struct.pack("<III", 0, len(packed), at[-1]), "bzz": packed}
    files = {f"texts/ztext/x/ot.{part}": data for part, data in one.items()}
    return files | {f"texts/ztext/x/nt.{part}": b"" for part in one}


def test_bible_verses_are_matched_by_chapter_and_number() -> None:
    chapter = '<chapter n="{0}" osisID="Gen.{0}" sID="Gen.{0}"/>'
    english = ["", "preface", chapter.format(1), "<w>In</w> it<note>no</note>.", "Two.", chapter.format(2), "Three."]
    spanish = ["", chapter.format(1), "En ello.", "", "Sobra.", '<div/><chapter osisID="Gen.2" sID="Gen.2"/>', "Tres."]
    read = reading(sword_text_web=sword(english), sword_text_sparv=sword(spanish))
    rows = [row for _, row in language.CONVERTERS["bible-en-es"](entry("bible-en-es"), read)]
    assert [(row["verse"], row["text"], row["target_text"]) for row in rows] == [
        ("Gen.1.1", "In it .", "En ello."),
        ("Gen.2.1", "Three.", "Tres."),
    ]


def test_help_pairs_need_the_same_place_and_sensible_lengths() -> None:
    def page(**paragraphs: str) -> bytes:
        return "".join(f'<p id="{name}" class="x">{text}</p>' for name, text in paragraphs.items()).encode()

    english = page(
        a="Open a <b>file</b> &amp; go", b="two words", c="the same text", d="Open a file & go", e="no one there"
    )
    french = page(a="Ouvrez un fichier", b="deux mots", c="the same text", d="Encore une fois", f="rien du tout")
    read = reading(
        libreoffice_help_en_us={"usr/share/libreoffice/help/en-US/text/shared/1.html": english},
        libreoffice_help_fr={"usr/share/libreoffice/help/fr/text/shared/1.html": french},
    )
    rows = [row for _, row in language.CONVERTERS["libreoffice-en-fr"](entry("libreoffice-en-fr"), read)]
    assert rows == [{"text": "Open a file & go", "target_text": "Ouvrez un fichier", "page": "shared/1.html"}]


def r_string(text: str) -> bytes:
    return struct.pack(">ii", 0x40009, len(text)) + text.encode()


def r_strings(texts: list[str]) -> bytes:
    return struct.pack(">ii", 16, len(texts)) + b"".join(map(r_string, texts))


def r_list(values: dict[str, bytes]) -> bytes:
    names = struct.pack(">iii", 0x402, 1, 0x40009) + struct.pack(">i", 5) + b"names" + r_strings(list(values))
    return struct.pack(">ii", 0x213, len(values)) + b"".join(values.values()) + names + struct.pack(">i", 254)


def r_file(item: bytes) -> bytes:
    return b"X\n" + struct.pack(">iii", 2, 0x40000, 0x20300) + item


def r_database(**texts: list[str]) -> dict[str, bytes]:
    data, places = b"", {}
    for name, lines in texts.items():
        record = zlib.compress(r_file(r_strings(lines)))
        places[name] = struct.pack(">iiii", 13, 2, len(data), 4 + len(record))
        data += struct.pack(">i", 0) + record
    return {"x/data/Rdata.rdx": gzip.compress(r_file(r_list({"variables": r_list(places)}))), "x/data/Rdata.rdb": data}


def test_austen_paragraphs_are_runs_of_lines() -> None:
    files = r_database(persuasion=["Sir Walter"], emma=["EMMA", "", "Emma Woodhouse, ", "handsome", "", "", "end"])
    rows = rows_of(language.CONVERTERS["austen"](entry("austen"), reading(r_cran_janeaustenr=files)))
    assert [(split, row["text"]) for split, row in rows] == [
        ("train", "EMMA"),
        ("train", "Emma Woodhouse, handsome"),
        ("train", "end"),
        ("test", "Sir Walter"),
    ]


def test_other_kinds_of_r_objects_are_refused() -> None:
    function = gzip.compress(r_file(struct.pack(">i", 3)))
    with pytest.raises(ValueError, match="an R object of type 3"):
        rdata.lazy_load(function, b"")
    with pytest.raises(ValueError, match="not an R object"):
        rdata.lazy_load(gzip.compress(b"B\n" + bytes(20)), b"")


# Pictures


def test_stamps_take_captioned_pictures_and_their_first_line(encoded: Encode) -> None:
    picture = encoded((255, 0, 0, 255), (200, 100), mode="RGBA")
    names = ["animals/birds/crow", "food/pie", "symbols/letters/a", "animals/silent"]
    files = {f"{STAMPS}{name}.png": picture for name in names}
    files |= {f"{STAMPS}{name}.txt": b"A %s.\nfr.utf8=Non" % name.encode() for name in names[:3]}
    rows = rows_of(multimodal.CONVERTERS["stamps"](entry("stamps"), reading(tuxpaint_stamps_default=files)))
    assert [(entry("stamps").classes[row["label"]], row["text"]) for _, row in rows] == [
        ("animals", "A animals/birds/crow."),
        ("food", "A food/pie."),
    ]
    image = rows[0][1]["image"]
    assert image.shape == (64, 64, 3)
    assert image[0, 0].tolist() == [255, 255, 255], "white above the picture"
    assert image[32, 0].tolist() == [255, 0, 0], "as wide as it can be"
    assert rows[0][0] == ("test" if held_out("crow.png") else "train")


def test_stamps_have_no_dark_edges(encoded: Encode) -> None:
    """Half transparent white stays white, shrunk or not."""
    pixels = np.zeros((200, 200, 4), np.uint8)
    pixels[..., :3] = 255
    pixels[50:150, 50:150, 3] = 128
    files = {f"{STAMPS}food/egg.png": encoded(pixels), f"{STAMPS}food/egg.txt": b"An egg."}
    ((_, row),) = rows_of(multimodal.CONVERTERS["stamps"](entry("stamps"), reading(tuxpaint_stamps_default=files)))
    assert row["image"].min() == 255


@pytest.fixture
def scene_packages(encoded: Encode) -> dict[str, dict[str, bytes]]:
    """Forty objects of one colour, four grounds of another."""
    stamps = {}
    for number in range(40):
        path = f"{STAMPS}{('animals', 'food')[number % 2]}/{number}"
        stamps[f"{path}.png"] = encoded((255, number, 0, 255), (300, 300), mode="RGBA")
        stamps[f"{path}.txt"] = b"It."
    stamps[f"{STAMPS}animals/cartoon/x.png"] = encoded((0, 255, 0, 255), (9, 9), mode="RGBA")
    stamps[f"{STAMPS}animals/cartoon/x.txt"] = b"Drawn."
    mate = {f"backgrounds/mate/nature/{name}.jpg": encoded((0, 0, 255), (400, 300)) for name in ("Dune", "Aqua")}
    skimage = {"skimage/data/chelsea.png": encoded((0, 0, 200), (120, 100)), "skimage/data/text.png": b"no photograph"}
    sklearn = {
        "sklearn/datasets/images/china.jpg": encoded((0, 0, 200), (120, 100)),
        "sklearn/datasets/images/x.py": b"",
    }
    return {
        "tuxpaint_stamps_default": stamps,
        "mate_backgrounds": mate,
        "scikit_image": skimage,
        "scikit_learn": sklearn,
    }


def test_scenes_hold_out_objects_and_their_masks_are_exact(scene_packages: dict[str, dict[str, bytes]]) -> None:
    known = replace(entry("stamps-scenes"), counts={"train": 30, "test": 6})
    rows = rows_of(vision.CONVERTERS["stamps-scenes"](known, reading(**scene_packages)))
    test_objects = {number for number in range(40) if held_out(f"{number}.png")}
    assert test_objects
    for split, row in rows:
        reds = row["image"][..., 0] > 250
        assert row["image"].shape == (96, 96, 3)
        # The colour of each object tells its number; edges of one colour stay sharp.
        numbers = set(row["image"][..., 1][reds].tolist())
        assert numbers <= test_objects if split == "test" else not numbers & test_objects
        np.testing.assert_array_equal(row["mask"] > 0, reds)
        assert all(
            set(row["mask"][row["image"][..., 1] == number].tolist()) - {0} <= {1 + number % 2} for number in numbers
        )


def test_masks_leave_out_what_is_transparent(scene_packages: dict[str, dict[str, bytes]], encoded: Encode) -> None:
    pixels = np.zeros((300, 300, 4), np.uint8)
    pixels[..., 0] = 255
    pixels[:, :150, 3] = 255
    stamps = scene_packages["tuxpaint_stamps_default"]
    stamps |= {name: encoded(pixels) for name in stamps if name.endswith(".png")}
    known = replace(entry("stamps-scenes"), counts={"train": 5, "test": 5})
    for _, row in vision.CONVERTERS["stamps-scenes"](known, reading(**scene_packages)):
        whole = (row["image"][..., 0] > 250) == (row["mask"] > 0)
        # Resizing blends the one column where the object ends.
        assert whole.mean() > 0.97


def test_scenes_are_the_same_each_time(scene_packages: dict[str, dict[str, bytes]]) -> None:
    known = replace(entry("stamps-scenes"), counts={"train": 4, "test": 2})
    more = replace(known, counts={"train": 9, "test": 2})
    first, again = (rows_of(vision.CONVERTERS["stamps-scenes"](it, reading(**scene_packages))) for it in (known, more))
    assert len({row["image"].tobytes() for _, row in first}) == 6
    for place in range(4):
        np.testing.assert_array_equal(first[place][1]["image"], again[place][1]["image"])


def test_photos_are_cut_side_by_side_and_whole_ones_held_out(scene_packages: dict[str, dict[str, bytes]]) -> None:
    rows = rows_of(vision.CONVERTERS["photos"](entry("photos"), reading(**scene_packages)))
    splits = [split for split, _ in rows]
    assert splits.count("train") == 1 + 4 * 3, "china and Aqua"
    assert splits.count("test") == 1 + 4 * 3, "chelsea and Dune"
    assert {row["image"].shape for _, row in rows} == {(96, 96, 3)}


def test_nuclei_halves_share_no_pixel(encoded: Encode) -> None:
    image = np.zeros((512, 512), np.uint16)
    image[:, 256:] = 200
    numbers = (image > 0).astype(np.uint16) * 7
    files = {
        f"stardist/data/images/{name}": tiff(data) for name, data in (("img2d.tif", image), ("mask2d.tif", numbers))
    }
    rows = rows_of(vision.CONVERTERS["nuclei"](entry("nuclei"), reading(stardist=files)))
    for split, row in rows:
        assert row["image"].shape == row["mask"].shape == (64, 64)
        assert set(row["image"].ravel().tolist()) == {200 if split == "test" else 0}
        assert set(row["mask"].ravel().tolist()) == {1 if split == "test" else 0}


def tiff(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "TIFF")
    return out.getvalue()


# Signals


def test_prompts_are_held_out_in_every_language() -> None:
    known = entry("asterisk")
    names = [f"{number}.wav" for number in range(40)]
    packages = {
        f"asterisk_core_sounds_{language}_wav": {
            f"usr/share/asterisk/sounds/{language}_voice/{name}": language.encode()
            for name in (*names, "silence/1.wav", "letters/a.wav")
        }
        for language in known.classes
    }
    rows = rows_of(signals.CONVERTERS["asterisk"](known, reading(**packages)))
    assert len(rows) == 5 * 41
    assert {known.classes[row["label"]].encode() == row["audio"] for _, row in rows} == {True}
    splits = {prompt: {split for split, row in rows if row["prompt"] == prompt} for prompt in ("letters/a", "0", "17")}
    assert all(len(found) == 1 for found in splits.values())
    assert {split for split, _ in rows} == {"train", "test"}


def test_films_are_told_by_their_names_and_resampled(encoded: Encode) -> None:
    known = entry("wesnoth")
    root = "usr/share/games/wesnoth/1.16/data/core/images/units/orcs/"
    frames = {
        f"{root}grunt-attack-{number}.png": encoded((number * 20, 0, 0), (72, 72)) for number in reversed(range(1, 12))
    }
    frames |= {f"{root}grunt-die-{number}.png": encoded() for number in range(3)}
    frames |= {f"{root}grunt-se-{number}.png": encoded() for number in range(6)}
    ((_, row),) = rows_of(signals.CONVERTERS["wesnoth"](known, reading(**{"wesnoth_1.16_data": frames})))
    assert (known.classes[row["label"]], row["unit"]) == ("attack", "grunt")
    film = row["video"].reshape(8, 72, 72, 3)
    order = film[:, 0, 0, 0].tolist()
    assert order == sorted(order), "by number, not by name: 2 comes before 11"
    assert (order[0], order[-1]) == (20, 220)


def test_films_shrink_large_frames_onto_grey(encoded: Encode) -> None:
    root = "data/core/images/units/bats/"
    frames = {f"{root}bat-run-{number}.png": encoded((9, 9, 9), (144, 72)) for number in range(4)}
    ((_, row),) = rows_of(signals.CONVERTERS["wesnoth"](entry("wesnoth"), reading(**{"wesnoth_1.16_data": frames})))
    assert row["video"].shape == (8 * 72, 72, 3)
    assert row["video"][0, 0].tolist() == [128, 128, 128]
    assert row["video"][36, 0].tolist() == [9, 9, 9]


def test_watch_windows_overlap_by_half_and_people_are_held_out() -> None:
    series = [np.arange(length * 6, dtype=np.float64).reshape(length, 6) for length in (199, 200, 450, 200, 200)]
    facts = {"X": np.asarray(series, object), "y": [0, 1, 2, 3, 4], "subject": [1, 1, 2, 3, 4]}
    out = io.BytesIO()
    np.save(out, facts, allow_pickle=True)  # type: ignore[arg-type]
    read = reading(seglearn={"seglearn/data/watch_dataset.npy": out.getvalue()})
    rows = rows_of(signals.CONVERTERS["watch"](entry("watch"), read))
    assert [(split, row["label"], row["series"][0, 0]) for split, row in rows] == [
        ("train", 1, 0),
        ("test", 2, 0),
        ("test", 2, 600),
        ("test", 2, 1200),
        ("test", 3, 0),
        ("test", 4, 0),
    ]
