"""Each format of the user's own data, from each place: the same rows, the same splits, the same index."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from dlsvc.data.codecs import Undecodable, apart, decode_audio, decode_image
from dlsvc.data.source import open_source
from dlsvc.data.splits import Source
from dlsvc.errors import DataError
from dlsvc.spec.data_sections import DataSpec
from tests.data.damage import png
from tests.data.places import PLACES, Files, Put, put_on_disk, put_with_fsspec, s3_server

COUNT = 20
LABELS = ("cat", "dog")


@pytest.fixture(scope="module")
def bucket() -> Iterator[Put]:
    with s3_server() as put:
        yield put


@pytest.fixture(params=PLACES)
def put(request: pytest.FixtureRequest, tmp_path: Path) -> Put:
    """Puts files somewhere and gives the path or uri of their folder."""
    if request.param == "s3":
        found: Put = request.getfixturevalue("bucket")
        return found
    return put_on_disk(tmp_path) if request.param == "disk" else put_with_fsspec(tmp_path)


def opened(where: str, home: Path, **data: Any) -> Source:
    return open_source(DataSpec.model_validate({"source": where, **data}), home)


def rows_of(source: Source) -> dict[str, Any]:
    """Of all splits."""
    parts = [source.table(split).rows(np.arange(len(source.table(split)))) for split in source.splits]
    return {name: [value for part in parts for value in part[name]] for name in parts[0]}


def sound(number: int) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, np.sin(np.arange(800) / (5 + number)).astype(np.float32) / 2, 8000, format="FLAC")
    return out.getvalue()


def image_folder() -> Files:
    return {f"{LABELS[n % 2]}/{n:02}.png": png(n, 8) for n in range(COUNT)}


def audio_folder() -> Files:
    return {f"{LABELS[n % 2]}/{n:02}.flac": sound(n) for n in range(COUNT)}


def pairs() -> Files:
    return {
        f"{n:02}.{end}": png(n, 8) if end == "png" else b"picture %d" % n
        for n in range(COUNT)
        for end in ("png", "txt")
    }


def jsonl() -> Files:
    lines = [{"text": f"picture {n}", "label": LABELS[n % 2]} for n in range(COUNT)]
    return {"train.jsonl": "\n".join(map(json.dumps, lines)).encode()}


def csv() -> Files:
    lines = ["x,y,label", *(f"{n},{-n},{LABELS[n % 2]}" for n in range(COUNT))]
    return {"train.csv": "\n".join(lines).encode()}


def parquet() -> Files:
    columns = {"image": [png(n, 8) for n in range(COUNT)], "label": [LABELS[n % 2] for n in range(COUNT)]}
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, row_group_size=6)
    return {"train.parquet": out.getvalue()}


def webdataset() -> Files:
    def shard(numbers: range) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            for n in numbers:
                for end, body in (("png", png(n, 8)), ("cls", LABELS[n % 2].encode()), ("txt", b"picture %d" % n)):
                    member = tarfile.TarInfo(f"{n:05}.{end}")
                    member.size = len(body)
                    archive.addfile(member, io.BytesIO(body))
        return out.getvalue()

    return {"train-0.tar": shard(range(12)), "train-1.tar": shard(range(12, COUNT))}


def conversations() -> Files:
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A picture."}]
    records = [{"id": str(n), "image": f"{n:02}.png", "conversations": turns} for n in range(COUNT)]
    return {"train.json": json.dumps(records).encode()} | {f"images/{n:02}.png": png(n, 8) for n in range(COUNT)}


def huggingface() -> Files:
    """As `Dataset.save_to_disk` lays it out: Arrow streams and state.json beside them."""
    table = pa.table({"text": [f"picture {n}" for n in range(COUNT)], "label": [n % 2 for n in range(COUNT)]})
    features = {"label": {"names": list(LABELS), "_type": "ClassLabel"}, "text": {"dtype": "string", "_type": "Value"}}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table, max_chunksize=6)
    name = "data-00000-of-00001.arrow"
    state = {"_data_files": [{"filename": name}], "_format_type": None, "_split": "train"}
    return {
        name: out.getvalue(),
        "state.json": json.dumps(state).encode(),
        "dataset_info.json": json.dumps({"features": features}).encode(),
    }


FORMATS: dict[str, Callable[[], Files]] = {
    "image-folder": image_folder,
    "audio-folder": audio_folder,
    "pairs": pairs,
    "jsonl": jsonl,
    "csv": csv,
    "parquet": parquet,
    "webdataset": webdataset,
    "conversations": conversations,
    "huggingface": huggingface,
}
HOLDS = {
    "image-folder": {"image", "label"},
    "audio-folder": {"audio", "label"},
    "pairs": {"image", "text"},
    "jsonl": {"text", "label"},
    "csv": {"features", "label"},
    "parquet": {"image", "label"},
    "webdataset": {"image", "label", "text"},
    "conversations": {"image", "conversation"},
    "huggingface": {"text", "label"},
}


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_from_every_place(kind: str, put: Put, tmp_path: Path) -> None:
    files = FORMATS[kind]()
    source = opened(put(kind, files), tmp_path / "home")
    rows = rows_of(source)
    assert HOLDS[kind] <= set(rows)
    assert {len(values) for values in rows.values()} == {COUNT}
    assert 0 < len(source.table("test")) < COUNT / 2
    if "label" in rows:
        assert (source.classes, sorted(rows["label"])) == (LABELS, [0] * 10 + [1] * 10)
    if "text" in rows:
        assert sorted(rows["text"]) == sorted(f"picture {n}" for n in range(COUNT))
    if "image" in rows:
        assert sorted(rows["image"]) == sorted(png(n, 8) for n in range(COUNT))
        assert all(decode_image(image, 3).shape == (8, 8, 3) for image in rows["image"])
    if "audio" in rows:
        assert all(np.abs(decode_audio(each, 8000, 800)).max() > 0.4 for each in rows["audio"])
    if "features" in rows:
        assert sorted(map(tuple, rows["features"])) == [(n, -n) for n in range(COUNT)]


def with_two_images() -> dict[str, Files]:
    """Each sample shows its own picture and the next."""
    turns = [{"from": "human", "value": "<image> and <image>: alike?"}, {"from": "gpt", "value": "no"}]
    names = [[f"{n:02}.png", f"{(n + 1) % COUNT:02}.png"] for n in range(COUNT)]
    pictures = {f"{n:02}.png": png(n, 8) for n in range(COUNT)}
    records = [{"id": str(n), "image": name, "conversations": turns} for n, name in enumerate(names)]
    lines = [{"image": name, "conversations": turns} for name in names]
    out = io.BytesIO()
    encoded = [[pictures[name] for name in two] for two in names]
    pq.write_table(pa.table({"image": encoded, "conversations": [turns] * COUNT}), out)
    return {
        "conversations": {"train.json": json.dumps(records).encode(), **pictures},
        "jsonl": {"train.jsonl": "\n".join(map(json.dumps, lines)).encode(), **pictures},
        "parquet": {"train.parquet": out.getvalue()},
    }


@pytest.mark.parametrize("kind", with_two_images())
def test_conversations_about_several_images(kind: str, put: Put, tmp_path: Path) -> None:
    rows = rows_of(opened(put(f"two-{kind}", with_two_images()[kind]), tmp_path / "home"))
    shown = [tuple(apart(image)) for image in rows["image"]]
    assert sorted(shown) == sorted((png(n, 8), png((n + 1) % COUNT, 8)) for n in range(COUNT))
    assert all(text.count("<image>") == 2 for text in rows["conversation"])


@pytest.mark.parametrize("kind", FORMATS)
def test_splits_and_content_don_t_depend_on_the_place(kind: str, bucket: Put, tmp_path: Path) -> None:
    files = FORMATS[kind]()
    here, there = (opened(to(f"twin-{kind}", files), tmp_path / "home") for to in (put_on_disk(tmp_path), bucket))
    for split in here.splits:
        one, two = here.table(split), there.table(split)
        assert len(one) == len(two)
        ids = np.arange(len(one))
        first, second = one.rows(ids), two.rows(ids)
        for name in first:
            if name != "uri":
                np.testing.assert_array_equal(first[name], second[name])


# Files whose change leaves the index good: it holds where they are, or doesn't know them.
UNLISTED = {kind: {".txt", ".json"} for kind in FORMATS} | {"conversations": {".png"}}


@pytest.mark.parametrize("kind", FORMATS)
def test_index_is_made_once_and_again_when_the_data_changes(kind: str, tmp_path: Path) -> None:
    from dlsvc.data.user import index_user

    where, home = put_on_disk(tmp_path)(kind, FORMATS[kind]()), tmp_path / "home"
    for file in Path(where).rglob("*.*"):
        _age(file)
    data = DataSpec(source=where)
    first, second = index_user(data, where, home), index_user(data, where, home)
    assert (first["made"], second["made"], first["counts"]) == (True, False, second["counts"])
    changed = next(file for file in sorted(Path(where).rglob("*.*")) if file.suffix not in UNLISTED[kind])
    changed.write_bytes(changed.read_bytes())
    assert index_user(data, where, home)["made"]


def _age(file: Path) -> None:
    """An hour old: an index of files that changed a moment ago isn't trusted."""
    then = file.stat().st_mtime - 3600
    os.utime(file, (then, then))


def test_row_groups_reach_the_plan(put: Put, tmp_path: Path) -> None:
    source = opened(put("groups", parquet()), tmp_path / "home")
    assert sum(source.table("train").groups) == len(source.table("train"))
    assert len(source.table("train").groups) == 4


def test_file_that_goes_away_is_one_bad_sample(put: Put, tmp_path: Path) -> None:
    lines = ["file_name,label", *(f"{n:02}.png,{LABELS[n % 2]}" for n in range(COUNT))]
    there = {f"{n:02}.png": png(n, 8) for n in range(COUNT) if n != 7}
    where = put("holes", {"metadata.csv": "\n".join(lines).encode(), **there})
    rows = rows_of(opened(where, tmp_path / "home"))
    bad = [uri for uri, image in zip(rows["uri"], rows["image"], strict=True) if _why(image)]
    assert [uri.endswith("07.png") for uri in bad] == [True]


def _why(image: bytes) -> str:
    try:
        decode_image(image, 3)
    except Undecodable as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("s3://bucket/nowhere", "no file or folder s3://bucket/nowhere"),
        ("nosuchscheme://bucket/x", "can't open nosuchscheme://bucket/x"),
        ("local:///nowhere", "no file or folder local:///nowhere"),
    ],
)
def test_place_that_isn_t_there(where: str, message: str, bucket: Put, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=message):
        opened(where, tmp_path / "home")


BROKEN: dict[str, tuple[Files, str]] = {
    "jsonl: not JSON": ({"train.jsonl": b'{"text": "a", "label": 1}\n{"text": \n'}, r"train\.jsonl:2"),
    "jsonl: a row without the column": ({"train.jsonl": b'{"text": "a", "label": "x"}\n{"text": "b"}\n'}, "label"),
    "csv: ragged": ({"train.csv": b"x,label\n1,a\n2,b,c\n"}, r"train\.csv"),
    "tar: cut off": ({"train.tar": webdataset()["train-0.tar"][:700]}, r"train\.tar"),
    "conversations: not a list": ({"train.json": b'{"id": 1}'}, r"train\.json"),
    "conversations: a speaker unknown": (
        {
            "train.json": json.dumps(
                [{"id": "1", "image": "a.png", "conversations": [{"from": "bob", "value": "x"}]}]
            ).encode()
        },
        "bob",
    ),
    "parquet: no parquet": ({"train.parquet": b"PAR1 no"}, r"train\.parquet"),
    "huggingface: no files": ({"state.json": b"{}", "dataset_info.json": b"{}"}, r"state\.json"),
    "nothing": ({"readme.md": b"hello"}, "no image files"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_wrong_is_said_with_its_place(kind: str, tmp_path: Path) -> None:
    files, message = BROKEN[kind]
    where = put_on_disk(tmp_path)("broken", files)
    with pytest.raises(DataError, match=message):
        rows_of(opened(where, tmp_path / "home"))
