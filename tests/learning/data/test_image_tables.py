"""Parquet tables of images: files of each split, columns, and labels of every type."""

from __future__ import annotations

import datetime
import io
import logging
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import ExifTags, Image

from gauntlet.core.errors import InputError
from gauntlet.learning.data.prepare import prepare
from gauntlet.learning.data.raw_data import RawData
from gauntlet.learning.data.sources.parquet import parquet
from gauntlet.registry import Spec
from tests.support.pictures import decoded, encoded, picture, table_of, write


def sizes(raw: RawData) -> tuple[int, int, int]:
    """Return the number of training, validation and test images; 0 for a split that there is not."""
    return len(raw.train), len(raw.validation or ()), len(raw.test or ())


def spec(root: Path) -> Spec:
    """Return the source of a folder."""
    return Spec("parquet", {"root": str(root), "image_column": None, "label_column": None, "size": None})


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train", "validation", "test"),
        ("data/train-00000-of-00001", "data/valid-00000-of-00001", "data/test-00000-of-00001"),
        ("Training", "Dev", "Eval"),
        ("train/0000", "val/0000", "test/0000"),
        ("default/train/0000", "default/validation/0000", "default/test/0000"),
        ("mnist_train", "mnist_val", "mnist_test"),
        ("TRAIN_images", "VAL_images", "TEST_images"),
        ("split=train/part-00000-8a7c", "split=val/part-00000-9b3f", "split=test/part-00000-1d2e"),
    ],
)
def test_splits_are_recognized_in_every_usual_spelling(tmp_path: Path, train: str, validation: str, test: str) -> None:
    """The split is in the name of the file, or of a folder."""
    for name, count in ((train, 6), (validation, 2), (test, 4)):
        write(table_of([0, 1] * (count // 2)), tmp_path / f"{name}.parquet")
    assert sizes(parquet(root=str(tmp_path))) == (6, 2, 4)


def test_hidden_files_are_not_read_and_others_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Files of tools are left out; a table that names no split is named in a warning."""
    for name in ("train", "._train", ".cache/train", "__MACOSX/train", "metadata"):
        write(table_of([0, 1]), tmp_path / f"{name}.parquet")
    (tmp_path / "elsewhere").symlink_to(tmp_path / ".cache")
    (tmp_path / ".cache" / "train.parquet").rename(tmp_path / ".cache" / "test.PARQUET")
    with caplog.at_level(logging.WARNING):
        assert sizes(parquet(root=str(tmp_path))) == (2, 0, 2)
    assert "not read, since their names name no split: metadata.parquet" in caplog.text


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["small/train-00000-of-00001", "large/train-00000-of-00001"], r"2 tables.*train: large/.*small/.*`root:`"),
        (["small/train", "large/train", "large/test"], r"2 tables for the split train.*`root:` to one of its folders"),
        (["train/a/0", "train/b/0"], "2 tables for the split train"),
        (["mnist_train", "fashion_train"], "2 tables.*move all but one"),
        (["train", "train_small"], "2 tables"),
        (["train", "training"], "train in two spellings: train, training"),
        (["train", "val", "validation"], "validation in two spellings: val, validation"),
        (["train", "data/train-00000-of-00001"], "more than once"),
        (["train-00000-of-00001", "train-00000-of-00002", "train-00001-of-00002"], "shards of several editions"),
        (["train-00000-of-00001-aa", "train-00000-of-00001-bb"], "more than once"),
        (["train-00000-of-00003", "train-00002-of-00003"], "lacks 1 of 3 shards of the split train: 1"),
        (["train-00001-of-00003", "train-00003-of-00003"], "lacks 1 of 3 shards of the split train: 2"),
        (["train", "train_test"], "train_test.parquet: names more than one split"),
        (["test", "digits"], r"no training table among digits.parquet, test.parquet"),
    ],
)
def test_unclear_files_are_refused_in_one_line(tmp_path: Path, files: list[str], message: str) -> None:
    """Two tables for a split, two spellings, missing shards: nothing is read twice or left out."""
    for name in files:
        write(table_of([0, 1]), tmp_path / f"{name}.parquet")
    with pytest.raises(InputError, match=message) as caught:
        parquet(root=str(tmp_path))
    assert "\n" not in str(caught.value)


def test_one_of_several_tables_is_chosen_by_the_root(tmp_path: Path) -> None:
    """The remedy of the refusal works."""
    write(table_of([0, 1]), tmp_path / "small" / "train.parquet")
    write(table_of([0, 1, 0, 1]), tmp_path / "large" / "train.parquet")
    with pytest.raises(InputError, match=f"such as {tmp_path}/small"):
        parquet(root=str(tmp_path))
    assert sizes(parquet(root=str(tmp_path / "small"))) == (2, 0, 0)


@pytest.mark.parametrize(
    ("labels", "classes", "numbers"),
    [
        ([1, 2, 3], ("1", "2", "3"), [0, 1, 2]),
        ([0, 1, 2, 4], ("0", "1", "2", "4"), [0, 1, 2, 3]),
        ([2102040, 1440764], ("1440764", "2102040"), [1, 0]),
        (pa.array([2**64 - 1, 0], pa.uint64()), ("0", str(2**64 - 1)), [1, 0]),
        ([10, 9, 10], ("9", "10"), [1, 0, 1]),
        ([-1, 1], ("-1", "1"), [0, 1]),
        ([1.0, 0.0], ("0", "1"), [1, 0]),
        (pa.array([1, 0], pa.float16()), ("0", "1"), [1, 0]),
        ([Decimal("2.0"), Decimal("1.0")], ("1", "2"), [1, 0]),
        ([True, False], ("False", "True"), [1, 0]),
        (["b", "a"], ("a", "b"), [1, 0]),
        (["10", "9"], ("10", "9"), [0, 1]),
        ([b"b", "é".encode()], ("b", "é"), [0, 1]),
        (pa.array(["b", "a"], pa.large_string()), ("a", "b"), [1, 0]),
        (pa.array(["b", "a"], pa.string_view()), ("a", "b"), [1, 0]),
        (pa.array(["b", "a", "b"]).dictionary_encode(), ("a", "b"), [1, 0, 1]),
        (pa.array([7, 5, 7]).dictionary_encode(), ("5", "7"), [1, 0, 1]),
        (pa.array([b"yes", b"not"], pa.binary(3)), ("not", "yes"), [1, 0]),
    ],
)
def test_the_labels_that_occur_are_the_classes(tmp_path: Path, labels: Any, classes: object, numbers: object) -> None:
    """Labels of any type are numbered in sorted order and remain the names of the classes."""
    write(table_of(labels), tmp_path / "train.parquet")
    raw = parquet(root=str(tmp_path), label_column="label")
    assert raw.classes == classes
    assert raw.train.labels.tolist() == numbers
    assert raw.train.images[:, 0, 0, 0].tolist() == list(range(len(raw.train)))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (pa.array([[0, 1], [1, 0]]), r"column 'label' \(list<.*int64>\) contains one-hot vectors"),
        (pa.array([[0.0, 1.0], [1.0, 0.0]], pa.list_(pa.float32(), 2)), "contains one-hot vectors"),
        (pa.array([[0, 2], [1]]), r"\(list<.*int64>\) does not have one label per image"),
        (pa.array([[0, 1], [0, 1]]), "does not have one label per image"),
        (pa.array([[1, 1], [0, 1]]), "does not have one label per image"),
        (pa.array([["a"], ["b"]]), "does not have one label per image"),
        (pa.array([[[0, 1]], [[1, 0]]]), "does not have one label per image"),
        (pa.array([{"a": 1}, {"a": 2}]), r"\(struct<a: int64>\) does not have one label per image"),
        (pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64())), "does not have one label per image"),
        ([0.5, 1.0], r"\(double\) contains 0.5 in row 0"),
        ([0.0, float("inf")], "contains inf in row 1"),
        ([0.0, float("nan")], r"lacks values \(1 of 2, the first in row 1\)"),
        ([0, None, None], r"lacks values \(2 of 3, the first in row 1\)"),
        (pa.nulls(2), "lacks values"),
        (["a", ""], "contains '' in row 1"),
        ([b"a", b"\xff"], "in row 1; labels must be"),
        ([-1, 0, 1], "contains -1, which usually marks images without a label"),
        ([datetime.date(2020, 1, 1), datetime.date(2020, 1, 2)], r"\(date32\[day\]\) contains"),
    ],
)
def test_labels_that_are_no_classes_are_refused_with_column_and_type(tmp_path: Path, labels: Any, message: str) -> None:
    """The message names the column, its type and what is wrong."""
    write(table_of(labels), tmp_path / "train.parquet")
    with pytest.raises(InputError, match=message) as caught:
        parquet(root=str(tmp_path), label_column="label")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


class TestClassesOfSplits:
    """Classes that the tables of different splits, or shards, name differently."""

    def test_class_names_in_another_order_are_matched_by_name(self, tmp_path: Path) -> None:
        """Metadata of the test table, and of a shard, may number the classes in another order."""
        write(table_of([0, 1], names=["cat", "dog"]), tmp_path / "train-00000-of-00002.parquet")
        write(table_of([0, 0, 1], names=["dog", "cat"]), tmp_path / "train-00001-of-00002.parquet")
        write(table_of([0, 1, 1], names=["dog", "cat"]), tmp_path / "test.parquet")
        write(table_of(["dog", "cat"]), tmp_path / "val.parquet")
        raw = parquet(root=str(tmp_path))
        assert raw.classes == ("cat", "dog")
        assert raw.train.labels.tolist() == [0, 1, 1, 1, 0]
        assert raw.test is not None
        assert raw.test.labels.tolist() == [1, 0, 0]
        assert raw.validation is not None
        assert raw.validation.labels.tolist() == [1, 0]

    def test_categories_in_another_order_are_matched_by_name(self, tmp_path: Path) -> None:
        """Categorical columns, as pandas writes them, are read by their values."""
        for split, order in (("train", ["cat", "dog"]), ("test", ["dog", "cat"])):
            table = table_of(["dog", "cat"]).to_pandas()
            table["label"] = pd.Categorical(table["label"], categories=order)
            table.to_parquet(tmp_path / f"{split}.parquet")
        raw = parquet(root=str(tmp_path))
        assert raw.test is not None
        assert raw.train.labels.tolist() == raw.test.labels.tolist() == [1, 0]

    @pytest.mark.parametrize(
        ("train", "test", "message"),
        [
            (([0, 1], ["cat", "dog"]), ([0, 1], ["cat", "eel"]), "it has eel and lacks dog"),
            (([0, 1], ["cat", "dog"]), ([0, 1], ["cat", "dog", "eel"]), "it has eel"),
            (([0, 1], ["cat", "dog"]), ([0, 0], ["cat"]), "it lacks dog"),
            (([0, 1], ["cat", "dog"]), ([0, 1], None), "test.parquet: column 'label' has numbers without class names"),
            (([0, 1], None), ([0, 1], ["cat", "dog"]), "train.parquet: column 'label' has numbers without class names"),
            (([0, 1], ["cat", "dog"]), (["cat", "eel"], None), "do not occur in training: eel"),
            (
                (["cat", "dog"], None),
                (["cat", "eel"], None),
                "do not occur in training: eel; the training labels are cat",
            ),
            ((["cat", "dog"], None), ([0, 1], None), "contains numbers, that of .*train.parquet names"),
            (([0, 1], None), (["0", "1"], None), "contains names, that of .*train.parquet numbers"),
            (([0, 1], None), ([0, 2], None), "do not occur in training: 2; the training labels are 0, 1"),
            (([0, 1, 2], None), ([-1, -1], None), "do not occur in training: -1"),
            (([0, 1], ["cat", "dog"]), ([-1, -1], ["cat", "dog"]), "contains -1.*remove the images without a label"),
            (([0, 2], ["cat", "dog"]), ([0, 1], ["cat", "dog"]), "contains 2, but its metadata has the names of 2"),
            (([0, 1], ["cat", "cat"]), ([0, 1], ["cat", "cat"]), "names a class twice: cat"),
        ],
    )
    def test_other_classes_are_refused(self, tmp_path: Path, train: Any, test: Any, message: str) -> None:
        """Labels that cannot be compared with those of training are not read."""
        for split, (labels, names) in (("train", train), ("test", test)):
            write(table_of(labels, names=names), tmp_path / f"{split}.parquet")
        with pytest.raises(InputError, match=message):
            parquet(root=str(tmp_path))

    def test_names_that_repeat_the_numbers_need_not_be_in_all_tables(self, tmp_path: Path) -> None:
        """The digits' names are their numbers."""
        write(table_of([0, 1, 2], names=["0", "1", "2"]), tmp_path / "train.parquet")
        write(table_of([2, 1]), tmp_path / "test.parquet")
        raw = parquet(root=str(tmp_path))
        assert raw.test is not None
        assert raw.test.labels.tolist() == [2, 1]

    def test_a_missing_class_of_the_metadata_is_left_out_and_reported(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A table filtered to some classes keeps the names of all; the network has the classes with images."""
        write(table_of([1, 3] * 10, names=["a", "b", "c", "d"]), tmp_path / "train.parquet")
        with caplog.at_level(logging.WARNING):
            prepared = prepare(spec(tmp_path))
        assert prepared.classes == ("b", "d")
        assert "classes without images are left out: a, c" in caplog.text
        write(table_of([1, 3, 0], names=["a", "b", "c", "d"]), tmp_path / "test.parquet")
        with pytest.raises(InputError, match="the test images have classes without training images: a"):
            prepare(spec(tmp_path))

    def test_messages_about_a_thousand_classes_are_short(self, tmp_path: Path) -> None:
        """A message names the first classes and the number of the others."""
        write(table_of([f"class {number:04}" for number in range(300)]), tmp_path / "train.parquet")
        write(table_of([f"other {number:04}" for number in range(300)]), tmp_path / "test.parquet")
        with pytest.raises(InputError, match="class 0005 and 294 more") as caught:
            parquet(root=str(tmp_path))
        assert len(str(caught.value)) < 500


class TestImages:
    """Columns of images."""

    @pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
    def test_bytes_of_every_type_are_read(self, tmp_path: Path, kind: pa.DataType) -> None:
        """Plain columns and structs with short and long offsets are read alike."""
        images = [encoded(picture(number)) for number in range(40)]
        for name, column in (
            ("plain", pa.array(images, kind)),
            ("struct", pa.StructArray.from_arrays([pa.array(images, kind)], ["bytes"])),
        ):
            write(pa.table({"picture": column, "label": [0, 1] * 20}), tmp_path / name / "train.parquet")
            raw = parquet(root=str(tmp_path / name))
            assert raw.train.images[:, 0, 0, 0].tolist() == list(range(40))

    def test_images_are_read_a_few_at_a_time(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """No array has more than 16 images, so that more than 2 GiB of images are read."""
        write(table_of([0, 1] * 30), tmp_path / "train.parquet")
        rows = []
        original = pq.ParquetFile.iter_batches

        def counted(self: pq.ParquetFile, batch_size: int, columns: list[str]) -> Any:
            for batch in original(self, batch_size, columns=columns):
                rows.append((columns[0], len(batch)))
                yield batch

        monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
        assert len(decoded(parquet(root=str(tmp_path)))) == 60
        assert [count for column, count in rows if column == "image"] == [16, 16, 16, 12] * 2  # once for their shape

    @pytest.mark.slow
    def test_more_than_two_gibibytes_of_images_are_read(self, tmp_path: Path) -> None:
        """66 images of 32 MiB each, whose column is longer than 32-bit offsets reach, in a file of 100 kB."""
        struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        schema = pa.schema([("image", struct), ("label", pa.int64())])
        with pq.ParquetWriter(tmp_path / "train.parquet", schema, compression="zstd") as writer:
            for number in range(66):
                # A PNG may carry anything behind its end.
                image = {"bytes": encoded(picture(number)).ljust(32 << 20, b"\0"), "path": None}
                writer.write_table(pa.table({"image": pa.array([image], struct), "label": [number % 2]}, schema=schema))
        raw = parquet(root=str(tmp_path))
        assert raw.train.images[:, 0, 0, 0].tolist() == list(range(66))

    @pytest.mark.parametrize(
        ("column", "message"),
        [
            (pa.array(["0.png", "1.png"]), r"column 'image' \(string\) has no encoded images"),
            (pa.array([[0, 1], [2, 3]]), "has no encoded images"),
            (pa.array([b"", b""]), "row 0: is empty"),
            (pa.array([encoded(picture(0)), None]), "row 1: has no image bytes"),
            (pa.array([encoded(picture(0)), b"<html>"]), "row 1: is damaged or not an image"),
            (pa.array([encoded(picture(0)), encoded(picture(0, size=(6, 9)))]), "row 1: is 9x6 pixels"),
        ],
    )
    def test_columns_without_images_are_refused(self, tmp_path: Path, column: pa.Array, message: str) -> None:
        """The message names the column and its type, or the row."""
        write(pa.table({"image": column, "label": [0, 1]}), tmp_path / "train.parquet")
        with pytest.raises(InputError, match=message):
            decoded(parquet(root=str(tmp_path), image_column="image", label_column="label"))

    def test_the_row_of_a_damaged_image_is_that_of_its_file(self, tmp_path: Path) -> None:
        """Rows are counted from the start of each file."""
        write(table_of([0, 1]), tmp_path / "train-00000-of-00002.parquet")
        table = pa.table({"image": pa.array([{"bytes": b"?"}]), "label": [0]})
        write(table, tmp_path / "train-00001-of-00002.parquet")
        with pytest.raises(InputError, match=r"train-00001-of-00002.parquet: row 0: is damaged"):
            decoded(parquet(root=str(tmp_path)))

    def test_images_are_turned_upright(self, tmp_path: Path) -> None:
        """The EXIF orientation is applied, as the datasets library applies it."""
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        image = picture(0)
        image.putpixel((0, 0), (0, 200, 0))
        buffer = io.BytesIO()
        image.save(buffer, format="PNG", exif=exif)
        write(pa.table({"image": [buffer.getvalue()] * 2, "label": [0, 1]}), tmp_path / "train.parquet")
        images = parquet(root=str(tmp_path)).train.images
        assert np.argwhere(images[0, 1].numpy() == 200).tolist() == [[0, 5]]

    def test_an_empty_split_is_refused_and_an_empty_shard_is_not(self, tmp_path: Path) -> None:
        """A split needs at least one row."""
        write(table_of([0, 1]), tmp_path / "train-00000-of-00002.parquet")
        write(table_of([0, 1]).slice(0, 0), tmp_path / "train-00001-of-00002.parquet")
        assert sizes(parquet(root=str(tmp_path))) == (2, 0, 0)
        write(table_of([0, 1]).slice(0, 0), tmp_path / "test.parquet")
        with pytest.raises(InputError, match=r"test.parquet: is empty"):
            parquet(root=str(tmp_path))
