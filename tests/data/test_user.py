from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dlsvc.data.catalog import held_out
from dlsvc.data.codecs import Undecodable, decode_image
from dlsvc.data.fit import build_preprocess
from dlsvc.data.source import open_source
from dlsvc.data.splits import Source
from dlsvc.errors import DataError, NotFound
from dlsvc.spec.schema import DataSpec

SIZE = {"size": 8, "channels": 1, "mean": [0.5], "std": [0.5]}


def opened(path: Path, **data: object) -> Source:
    return open_source(DataSpec.model_validate({"source": str(path), **data}), path.parent / "home")


def every_row(source: Source, split: str) -> dict[str, object]:
    table = source.table(split)
    return table.rows(np.arange(len(table), dtype=np.int64))


def why_bad(data: bytes) -> str:
    """The reason that an image can't be decoded; "" for a sound one."""
    try:
        decode_image(data, 1, 8)
    except Undecodable as error:
        return str(error)
    return ""


def write_csv(path: Path, rows: int = 60, **columns: Callable[[int], object]) -> Path:
    lines = [",".join(columns), *(",".join(str(value(row)) for value in columns.values()) for row in range(rows))]
    path.write_text("\n".join(lines))
    return path


def flowers(path: Path, **columns: Callable[[int], object]) -> Path:
    known: dict[str, Callable[[int], object]] = {"x": lambda row: row / 10, "y": lambda row: -row}
    return write_csv(path, **{**known, "label": lambda row: "ab"[row % 2], **columns})


class TestImageFolder:
    def test_classes_are_folders_and_one_in_ten_is_held_out(self, image_folder: Path) -> None:
        source = opened(image_folder)
        assert source.classes == ("dark", "light")
        train, test = every_row(source, "train"), every_row(source, "test")
        assert len(train["uri"]) + len(test["uri"]) == 60
        assert 0 < len(test["uri"]) < 15
        assert not set(train["uri"]) & set(test["uri"])

    def test_pixels_arrive_by_class(self, image_folder: Path) -> None:
        source = opened(image_folder)
        preprocess = build_preprocess(DataSpec(source=str(image_folder), image=SIZE), source)
        arrays, bad = preprocess.decode(every_row(source, "train"))
        assert not bad
        assert {
            (int(label), int(image[0, 0, 0])) for label, image in zip(arrays["label"], arrays["image"], strict=True)
        } == {
            (0, 20),
            (1, 220),
        }

    def test_own_test_split(self, image_folder: Path, tmp_path: Path) -> None:
        root = tmp_path / "split"
        root.mkdir()
        image_folder.rename(root / "train")
        (root / "test/dark").mkdir(parents=True)
        (root / "train/dark/00.png").rename(root / "test/dark/00.png")
        source = opened(root)
        assert (len(source.table("train")), len(source.table("test"))) == (59, 1)

    def test_damaged_image_is_a_bad_row_with_its_file(self, image_folder: Path) -> None:
        (image_folder / "dark/01.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
        source = opened(image_folder)
        preprocess = build_preprocess(DataSpec(source=str(image_folder), image=SIZE), source)
        _, bad = preprocess.decode(every_row(source, "train"))
        assert [row.uri for row in bad] == [str(image_folder / "dark/01.png")]

    @pytest.mark.parametrize("kind", ["csv", "jsonl"])
    def test_metadata_names_labels_and_texts(self, kind: str, image_folder: Path) -> None:
        rows = [{"file_name": f"dark/{n:02}.png", "label": n % 2, "text": f"picture {n}"} for n in range(30)]
        csv = "file_name,label,text\n" + "\n".join(",".join(map(str, row.values())) for row in rows)
        text = csv if kind == "csv" else "\n".join(map(json.dumps, rows))
        (image_folder / f"metadata.{kind}").write_text(text)
        source = opened(image_folder)
        assert source.classes == ("0", "1")
        assert "picture 3" in [*every_row(source, "train")["text"], *every_row(source, "test")["text"]]

    def test_metadata_without_any_of_its_files_names_its_line(self, image_folder: Path) -> None:
        (image_folder / "metadata.csv").write_text("file_name,label\ndark/98.png,a\ndark/99.png,a\n")
        with pytest.raises(DataError, match=r"metadata\.csv:2: no file .*98\.png, nor any other"):
            opened(image_folder)

    def test_one_missing_file_is_one_bad_row(self, image_folder: Path) -> None:
        names = [f"dark/{number:02}.png" for number in (0, 98, 1, 2)]
        (image_folder / "metadata.csv").write_text("\n".join(["file_name", *names]))
        source = opened(image_folder)
        rows = every_row(source, "train" if not held_out("dark/98.png") else "test")
        bad = [uri for uri, data in zip(rows["uri"], rows["image"], strict=True) if why_bad(data)]
        assert bad == [str(image_folder / "dark/98.png")]
        assert "No such file" in str(why_bad(rows["image"][rows["uri"].index(bad[0])]))

    def test_metadata_with_a_misspelt_column(self, image_folder: Path) -> None:
        (image_folder / "metadata.csv").write_text("filename,label\ndark/00.png,a\n")
        with pytest.raises(DataError, match="did you mean 'filename'"):
            opened(image_folder)

    def test_metadata_that_is_no_json(self, image_folder: Path) -> None:
        (image_folder / "metadata.jsonl").write_text("{]\n")
        with pytest.raises(DataError, match=r"metadata\.jsonl:1: not JSON"):
            opened(image_folder)

    def test_missing_label_is_found(self, image_folder: Path, encoded: Callable[..., bytes]) -> None:
        (image_folder / "stray.png").write_bytes(encoded())
        split = "test" if held_out("stray.png") else "train"
        with pytest.raises(DataError, match=r"stray\.png: the label is missing"):
            opened(image_folder).table(split)

    def test_no_images(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no image files"):
            opened(tmp_path)

    def test_test_class_that_was_never_trained(self, image_folder: Path, tmp_path: Path) -> None:
        root = tmp_path / "split"
        root.mkdir()
        image_folder.rename(root / "train")
        (root / "test").mkdir()
        (root / "train/dark").rename(root / "test/gloomy")
        with pytest.raises(DataError, match="no training sample has the label 'gloomy'"):
            opened(root).table("test")

    def test_size_must_be_given(self, image_folder: Path) -> None:
        with pytest.raises(DataError, match=r"data\.image must say what size"):
            build_preprocess(DataSpec(source=str(image_folder)), opened(image_folder))

    def test_fingerprint_follows_the_content(self, image_folder: Path, encoded: Callable[..., bytes]) -> None:
        before = opened(image_folder).table("train").fingerprint
        assert opened(image_folder).table("train").fingerprint == before
        (image_folder / "dark/01.png").write_bytes(encoded((21, 20, 20)))
        assert opened(image_folder).table("train").fingerprint != before


class TestCsv:
    def test_every_numeric_column_is_a_feature(self, tmp_path: Path) -> None:
        source = opened(flowers(tmp_path / "a.csv"))
        assert (source.features, source.classes) == (("x", "y"), ("a", "b"))
        assert len(source.table("train")) + len(source.table("test")) == 60
        assert every_row(source, "train")["features"].dtype == np.float32

    def test_folder_with_its_own_test_file(self, tmp_path: Path) -> None:
        flowers(tmp_path / "train.csv")
        write_csv(tmp_path / "test.csv", 4, y=lambda row: row, x=lambda row: 5, label=lambda row: "b")
        rows = every_row(opened(tmp_path), "test")
        assert rows["features"].tolist() == [[5, 0], [5, 1], [5, 2], [5, 3]]
        assert rows["label"].tolist() == [1] * 4

    def test_columns_by_name(self, tmp_path: Path) -> None:
        path = flowers(tmp_path / "a.csv", kind=lambda row: row % 3)
        source = opened(path, columns={"label": "kind", "features": ["y"]})
        assert (source.features, source.classes) == (("y",), ("0", "1", "2"))

    def test_images_by_path(self, image_folder: Path) -> None:
        path = write_csv(image_folder / "a.csv", 30, image=lambda row: f"dark/{row:02}.png", label=lambda row: row % 2)
        rows = every_row(opened(path), "train")
        assert rows["image"][0] == (image_folder / "dark/00.png").read_bytes()
        assert rows["uri"][0] == f"{path}#1"

    @pytest.mark.parametrize(
        ("column", "message"),
        [
            ({"x": lambda row: "n/a!" if row == 6 else row}, r"a\.csv, row 7, column 'x': 'n/a!' is not a number"),
            ({"x": lambda row: "" if row == 6 else row}, "row 7, column 'x': the feature is missing"),
            ({"label": lambda row: "" if row == 6 else "a"}, "row 7, column 'label': the label is missing"),
            ({"label": lambda row: row - 3}, "'label': -1 is no class"),
            ({"label": lambda row: row + 0.5}, "is no class"),
        ],
    )
    def test_wrong_value_is_found_with_its_row(
        self, column: dict[str, Callable[[int], object]], message: str, tmp_path: Path
    ) -> None:
        with pytest.raises(DataError, match=message):
            opened(flowers(tmp_path / "a.csv", **column)).table("train")

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            ({"label": "lable"}, r"no column 'lable' \(data.columns.label\); did you mean 'label'"),
            ({"features": ["xx"]}, r"no column 'xx' \(data.columns.features\)"),
        ],
    )
    def test_unknown_column(self, columns: dict[str, object], message: str, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=message):
            opened(flowers(tmp_path / "a.csv"), columns=columns)

    def test_misspelt_default_column(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="did you mean 'labels'"):
            opened(write_csv(tmp_path / "a.csv", x=lambda row: row, labels=lambda row: row % 2))

    @pytest.mark.parametrize("text", ["", "x,label\n", "x,label\n1,2,3\n4\n"])
    def test_empty_or_ragged_file(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text(text)
        with pytest.raises(DataError, match=r"a\.csv"):
            opened(tmp_path / "a.csv")

    def test_test_file_without_a_column(self, tmp_path: Path) -> None:
        flowers(tmp_path / "train.csv")
        write_csv(tmp_path / "test.csv", x=lambda row: row, label=lambda row: "a")
        with pytest.raises(DataError, match=r"test\.csv: no column 'y', which train\.csv has"):
            opened(tmp_path)

    def test_nothing_to_learn_from(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no image, audio, text or numeric column"):
            opened(write_csv(tmp_path / "a.csv", label=lambda row: row % 2))


class TestParquet:
    def write(self, path: Path, images: list[object], labels: object, **options: object) -> Path:
        pq.write_table(pa.table({"image": images, "label": labels}), path, row_group_size=7, **options)
        return path

    @pytest.mark.parametrize("wrapped", [False, True])
    def test_images_as_bytes_and_as_hugging_face_has_them(
        self, wrapped: bool, tmp_path: Path, encoded: Callable[..., bytes]
    ) -> None:
        images = [encoded((row, row, row)) for row in range(40)]
        values = [{"bytes": image, "path": None} for image in images] if wrapped else images
        source = opened(self.write(tmp_path / "a.parquet", values, [row % 4 for row in range(40)]))
        table = source.table("train")
        ids = np.asarray([30, 2, 17])
        rows = table.rows(ids)
        # The ids count the rows that aren't held out; the uri says which row of the file each is.
        numbers = [int(uri.rsplit("#", 1)[1]) - 1 for uri in rows["uri"]]
        assert rows["image"] == [images[number] for number in numbers]
        assert rows["label"].tolist() == [number % 4 for number in numbers]

    def test_class_names_of_hugging_face(self, tmp_path: Path, encoded: Callable[..., bytes]) -> None:
        facts = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
        table = pa.table({"image": [encoded()] * 20, "label": [row % 2 for row in range(20)]})
        named = table.replace_schema_metadata({"huggingface": json.dumps(facts)})
        pq.write_table(named, tmp_path / "train-00000-of-00001.parquet")
        pq.write_table(named, tmp_path / "test-00000-of-00001.parquet")
        source = opened(tmp_path)
        assert source.classes == ("cat", "dog")
        assert every_row(source, "test")["label"].tolist() == [0, 1] * 10

    def test_test_label_out_of_range_is_found_with_its_row(self, tmp_path: Path, encoded: Callable[..., bytes]) -> None:
        self.write(tmp_path / "train.parquet", [encoded()] * 10, [0, 1] * 5)
        self.write(tmp_path / "test.parquet", [encoded()] * 10, [0] * 8 + [2, 0])
        with pytest.raises(DataError, match=r"test\.parquet, row 9, column 'label': the label is '2', not one of 0, 1"):
            every_row(opened(tmp_path), "test")

    def test_not_a_parquet_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.parquet").write_bytes(b"PAR0")
        with pytest.raises(DataError, match="can't read"):
            opened(tmp_path / "a.parquet")


def test_missing_path(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file or folder"):
        opened(tmp_path / "nowhere")


def test_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("x\ty\n")
    with pytest.raises(DataError, match="neither"):
        opened(tmp_path / "a.tsv")
