"""Data sources, on generated files and on real sets if they are available."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torchvision.datasets import QMNIST

from gauntlet.core.errors import InputError
from gauntlet.learning.data.prepare import prepare
from gauntlet.learning.data.sources.imagefolder import imagefolder
from gauntlet.learning.data.sources.parquet import parquet
from gauntlet.learning.data.sources.torchvision import torchvision
from gauntlet.registry import SOURCES, Spec
from tests.support.pictures import decoded, encoded, folder_of, picture
from tests.support.real_data import DATA, needs_data


def test_every_source_is_cited_and_described() -> None:
    """Each registered source has a citation and a one-line description."""
    for name in SOURCES.names():
        assert SOURCES.entry(name).tags["source"]
        assert SOURCES.entry(name).doc


class TestImagefolder:
    """Folders of image files."""

    def test_split_folders_are_read_with_classes_in_name_order(self, tmp_path: Path) -> None:
        """`train`, `val` and `test` are recognized, and classes are numbered by name."""
        names = ["zebra", "ant", "mole", "bee", "yak", "cow", "dog"]
        for split, count in (("train", 4), ("val", 2), ("test", 3)):
            folder_of(tmp_path / split, dict.fromkeys(names, count))
        raw = imagefolder(root=str(tmp_path))
        assert raw.classes == tuple(sorted(names))
        assert raw.validation is not None
        assert raw.test is not None
        assert [len(split) for split in (raw.train, raw.validation, raw.test)] == [28, 14, 21]
        assert raw.train.images.shape == (28, 3, 6, 6)
        assert raw.train.labels.tolist() == [label for label in range(7) for _ in range(4)]
        assert raw.train.images[:4, 0, 0, 0].tolist() == [0, 1, 2, 3]

    def test_plain_class_folders_have_no_test_split(self, tmp_path: Path) -> None:
        """Without split folders all images are training images."""
        folder_of(tmp_path, {"a": 10, "b": 10}, mode="L")
        raw = imagefolder(root=str(tmp_path))
        assert raw.test is None
        assert raw.train.images.shape == (20, 1, 6, 6)
        prepared = prepare(Spec("imagefolder", {"root": str(tmp_path), "size": None}), test=0.2, validation=0.25)
        assert {name: len(split) for name, split in prepared.splits.items()} == {
            "train": 12,
            "validation": 4,
            "test": 4,
        }

    def test_stored_order_mixes_the_classes(self, tmp_path: Path) -> None:
        """The first images of a stored split are of many classes, though folders are read class by class."""
        folder_of(tmp_path, {"a": 60, "b": 60}, mode="L")
        prepared = prepare(Spec("imagefolder", {"root": str(tmp_path), "size": None}))
        for split in prepared.splits.values():
            assert 0 < split.labels[: len(split) // 2].double().mean() < 1

    def test_size_makes_all_images_the_same_size(self, tmp_path: Path) -> None:
        """The shorter side is scaled, and the center is cropped."""
        folder_of(tmp_path / "a", {"x": 2}, size=(8, 16))
        folder_of(tmp_path / "b", {"x": 2}, size=(20, 10))
        assert imagefolder(root=str(tmp_path), size=4).train.images.shape == (4, 3, 4, 4)
        with pytest.raises(InputError, match="set `size:`"):
            decoded(imagefolder(root=str(tmp_path)))

    def test_gray_images_become_color_in_a_color_set(self, tmp_path: Path) -> None:
        """One color image makes a set a color set."""
        folder_of(tmp_path / "a", {"x": 1}, mode="L")
        folder_of(tmp_path / "b", {"x": 1})
        assert imagefolder(root=str(tmp_path)).train.images.shape == (2, 3, 6, 6)

    def test_a_damaged_image_is_named(self, tmp_path: Path) -> None:
        """A file that is no image is named in the error."""
        folder_of(tmp_path, {"a": 1, "b": 1})
        (tmp_path / "a" / "broken.png").write_bytes(b"not an image")
        with pytest.raises(InputError, match=r"broken\.png.*damaged"):
            decoded(imagefolder(root=str(tmp_path)))

    def test_a_truncated_image_is_named(self, tmp_path: Path) -> None:
        """A truncated image is named in the error, not filled with gray."""
        folder_of(tmp_path, {"a": 1, "b": 1})
        noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8))
        (tmp_path / "b" / "cut.png").write_bytes(encoded(noise)[:2000])
        with pytest.raises(InputError, match=r"cut\.png"):
            decoded(imagefolder(root=str(tmp_path), size=6))

    @pytest.mark.parametrize(
        ("counts", "message"), [({}, "0 class folders"), ({"a": 1}, "1 class folders"), ({"a": 0, "b": 0}, "no image")]
    )
    def test_a_folder_without_classes_or_images_is_refused(
        self, tmp_path: Path, counts: dict[str, int], message: str
    ) -> None:
        """The error states the expected layout in one line."""
        folder_of(tmp_path, counts)
        with pytest.raises(InputError, match=message):
            imagefolder(root=str(tmp_path))

    def test_a_missing_folder_is_named(self, tmp_path: Path) -> None:
        """The error names the folder and its configuration key."""
        with pytest.raises(InputError, match=r"absent.*`root:`"):
            imagefolder(root=str(tmp_path / "absent"))


class TestParquet:
    """Tables in the layout of the Hugging Face hub."""

    @staticmethod
    def table(labels: list[object], *, names: list[str] | None = None) -> pa.Table:
        """Return a table with one image per label; the red of an image is its row."""
        images = [{"bytes": encoded(picture(row)), "path": f"{row}.png"} for row in range(len(labels))]
        table = pa.table({"img": images, "label": labels})
        if names is None:
            return table
        described = f'{{"info": {{"features": {{"label": {{"names": {names!r}}}}}}}}}'.replace("'", '"')
        return table.replace_schema_metadata({"huggingface": described})

    def test_shards_and_named_classes_are_read(self, tmp_path: Path) -> None:
        """Shards are joined in order, and class names come from the metadata."""
        (tmp_path / "data").mkdir()
        pq.write_table(self.table([1, 0], names=["cat", "dog"]), tmp_path / "data" / "train-00000-of-00002.parquet")
        pq.write_table(self.table([1], names=["cat", "dog"]), tmp_path / "data" / "train-00001-of-00002.parquet")
        pq.write_table(self.table([0], names=["cat", "dog"]), tmp_path / "data" / "test-00000-of-00001.parquet")
        raw = parquet(root=str(tmp_path))
        assert raw.classes == ("cat", "dog")
        assert raw.train.labels.tolist() == [1, 0, 1]
        assert raw.train.images[:, 0, 0, 0].tolist() == [0, 1, 0]
        assert raw.test is not None
        assert len(raw.test) == 1
        assert raw.validation is None

    def test_string_labels_are_numbered_in_sorted_order(self, tmp_path: Path) -> None:
        """String labels without metadata are sorted by name."""
        pq.write_table(self.table(["pear", "apple", "pear"]), tmp_path / "train.parquet")
        raw = parquet(root=str(tmp_path))
        assert raw.classes == ("apple", "pear")
        assert raw.train.labels.tolist() == [1, 0, 1]

    def test_integer_labels_without_names_are_their_own_names(self, tmp_path: Path) -> None:
        """Integer labels from 0 need no metadata."""
        pq.write_table(self.table([2, 0, 1]), tmp_path / "train.parquet")
        assert parquet(root=str(tmp_path)).classes == ("0", "1", "2")

    def test_ambiguous_columns_are_refused_unless_named(self, tmp_path: Path) -> None:
        """With two columns of images one must be named."""
        table = self.table([0, 1])
        pq.write_table(table.append_column("depth", table["img"]), tmp_path / "train.parquet")
        with pytest.raises(InputError, match="`image_column:`"):
            parquet(root=str(tmp_path))
        assert len(parquet(root=str(tmp_path), image_column="depth").train) == 2

    @pytest.mark.parametrize("options", [{"image_column": "nothing"}, {"label_column": "nothing"}])
    def test_an_unknown_column_is_refused_with_the_known_ones(self, tmp_path: Path, options: dict[str, str]) -> None:
        """The error lists the columns."""
        pq.write_table(self.table([0, 1]), tmp_path / "train.parquet")
        with pytest.raises(InputError, match=r"no column 'nothing'.*img, label"):
            parquet(root=str(tmp_path), **options)  # type: ignore[arg-type]

    @pytest.mark.parametrize("labels", [[-1, 0], [0.5, 1.0], [None, 1]])
    def test_labels_that_are_no_classes_are_refused(self, tmp_path: Path, labels: list[object]) -> None:
        """Negative, fractional and missing labels are refused."""
        pq.write_table(self.table(labels), tmp_path / "train.parquet")
        with pytest.raises(InputError, match="label"):
            parquet(root=str(tmp_path), label_column="label")

    def test_an_image_without_bytes_is_named_by_row(self, tmp_path: Path) -> None:
        """A table of paths only is refused at its first row."""
        images = [{"bytes": None, "path": "0.png"}]
        schema = pa.schema([("img", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())])
        pq.write_table(pa.table({"img": images, "label": [0]}, schema=schema), tmp_path / "train.parquet")
        with pytest.raises(InputError, match=r"row 0.*no image bytes"):
            decoded(parquet(root=str(tmp_path)))

    def test_missing_and_damaged_tables_are_named(self, tmp_path: Path) -> None:
        """The error names the pattern without matches, or the damaged file."""
        with pytest.raises(InputError, match=r"train\*\.parquet.*`root:`"):
            parquet(root=str(tmp_path))
        (tmp_path / "train.parquet").write_bytes(b"PAR1 and nothing more")
        with pytest.raises(InputError, match=r"train\.parquet.*damaged"):
            parquet(root=str(tmp_path))


class TestTorchvision:
    """torchvision's classification sets."""

    def test_an_unknown_set_is_refused_with_the_nearest_name(self) -> None:
        """A misspelt set is refused with the right spelling."""
        with pytest.raises(InputError, match="did you mean 'FashionMNIST'"):
            torchvision(name="FashonMNIST")

    @pytest.mark.parametrize("name", ["MNIST", "CIFAR10", "SVHN", "GTSRB", "EuroSAT"])
    def test_missing_files_are_refused_with_folder_and_remedy(self, tmp_path: Path, name: str) -> None:
        """Without files and download, the error names the folder and the option to set."""
        with pytest.raises(InputError, match="`download: true`") as caught:
            torchvision(name=name, root=str(tmp_path))
        assert str(tmp_path) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_missing_mnist_files_are_named(self, tmp_path: Path) -> None:
        """The error lists the missing files of MNIST."""
        with pytest.raises(InputError, match=r"MNIST/raw/\{train-images-idx3-ubyte,"):
            torchvision(name="MNIST", root=str(tmp_path))

    def test_a_set_with_variants_needs_one(self, tmp_path: Path) -> None:
        """EMNIST has six variants and no default."""
        with pytest.raises(InputError, match="`subset:`"):
            torchvision(name="EMNIST", root=str(tmp_path))
        with pytest.raises(InputError, match="subset"):
            torchvision(name="EMNIST", root=str(tmp_path), subset="nothing")

    def test_images_of_a_set_without_splits_are_all_training(self, tmp_path: Path) -> None:
        """EuroSAT has no splits, so all its images are training images, resized to `size`."""
        folder_of(tmp_path / "eurosat" / "2750", {"Forest": 3, "River": 2}, size=(8, 8))
        raw = torchvision(name="EuroSAT", root=str(tmp_path), size=4)
        assert raw.classes == ("Forest", "River")
        assert raw.train.images.shape == (5, 3, 4, 4)
        assert raw.test is None

    def test_splits_with_folders_of_classes_are_numbered_alike(self, tmp_path: Path) -> None:
        """Country211 numbers the classes of each split by its folders: one without a class shifts the others."""
        for split, names in (("train", "abc"), ("valid", "bc"), ("test", "abc")):
            folder_of(tmp_path / "country211" / split, dict.fromkeys(names, 2))
        raw = torchvision(name="Country211", root=str(tmp_path))
        assert raw.classes == ("a", "b", "c")
        assert raw.validation is not None
        assert raw.validation.labels.tolist() == [1, 1, 2, 2]
        folder_of(tmp_path / "country211" / "test", {"d": 1})
        with pytest.raises(InputError, match="the test split has classes that training lacks: d"):
            torchvision(name="Country211", root=str(tmp_path))

    @pytest.mark.parametrize("size", [None, 14])
    def test_the_class_is_the_first_of_the_labels_of_qmnist(self, tmp_path: Path, size: int | None) -> None:
        """QMNIST has eight numbers per image, such as that of the writer."""
        labels = np.full((20, 8), 77, ">i4")
        labels[:, 0] = np.arange(20) % 10
        pixels = np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8)
        (tmp_path / "QMNIST" / "raw").mkdir(parents=True)
        for (images_url, _), (labels_url, _) in (QMNIST.resources[QMNIST.subsets[what]] for what in ("train", "test")):
            for url, array, kind in ((images_url, pixels, 8), (labels_url, labels, 12)):
                header = bytes([0, 0, kind, array.ndim]) + np.array(array.shape, ">i4").tobytes()
                (tmp_path / "QMNIST" / "raw" / Path(url).stem).write_bytes(header + array.tobytes())
        raw = torchvision(name="QMNIST", root=str(tmp_path), size=size)
        assert raw.train is not None
        assert raw.train.labels.tolist() == labels[:, 0].tolist()
        assert raw.train.image_shape == (1, size or 28, size or 28)
        if size is None:
            assert torch.equal(raw.train.images[:, 0], torch.from_numpy(pixels))

    @needs_data
    @pytest.mark.parametrize(("name", "mean"), [("MNIST", 0.1307), ("FashionMNIST", 0.2860)])
    def test_real_sets_are_read_from_disk(self, name: str, mean: float) -> None:
        """Real sets have 60 000 and 10 000 images with the known mean, and limits apply."""
        raw = torchvision(name=name, root=str(DATA))
        assert raw.test is not None
        assert (len(raw.train), len(raw.test)) == (60_000, 10_000)
        assert raw.train.images.double().mean() / 255 == pytest.approx(mean, abs=1e-4)
        source = Spec("torchvision", {"name": name, "root": str(DATA)})
        small = prepare(source, limit={"train": 1000, "test": 100})
        assert {split: len(images) for split, images in small.splits.items()} == {
            "train": 800,
            "validation": 200,
            "test": 100,
        }


@needs_data
def test_real_cifar_is_read_from_parquet(tmp_path: Path) -> None:
    """CIFAR-10 (JPEG) has its class names from the metadata and the pixels that PIL decodes."""
    base = DATA / "cifar10-jpeg"
    head = pq.read_table(base / "test.parquet").slice(0, 300)
    pq.write_table(head, tmp_path / "train.parquet")
    raw = parquet(root=str(tmp_path))
    assert raw.classes[0] == "airplane"
    assert len(raw.classes) == 10
    assert raw.train.images.shape == (300, 3, 32, 32)
    first = np.asarray(Image.open(io.BytesIO(head["img"][0]["bytes"].as_py())))
    assert torch.equal(raw.train.images[0], torch.from_numpy(first.transpose(2, 0, 1).copy()))
