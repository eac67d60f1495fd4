"""The source `cifar`, on small files in CIFAR's layouts."""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gauntlet.core.errors import InputError
from gauntlet.learning.data.prepare import select
from gauntlet.learning.data.sources import cifar as module
from gauntlet.learning.data.sources.cifar import cifar
from gauntlet.learning.data.store import store
from gauntlet.registry import SOURCES, Spec
from tests.support.cifar_files import Dump, Images, batch, names, python2, python3, write_cifar10, write_cifar100

TRAIN, TEST = Images.random(53, 1), Images.random(20, 2)
SPLITS_100 = {"train": Images.random(45, 3, classes=15), "test": Images.random(30, 4, classes=15)}

DUMPS: dict[str, Dump | None] = {
    "binary": None,
    "python2": python2,
    **{f"python3_{protocol}": python3(protocol) for protocol in range(6)},
}
versions = pytest.mark.parametrize("dump", DUMPS.values(), ids=DUMPS)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Leave the warnings of small sets out of the report of a failure."""
    caplog.set_level(logging.ERROR, "gauntlet")


def refused(root: Path, *parts: str, **options: Any) -> None:
    """Check that a folder is refused in one line with `parts`."""
    with pytest.raises(InputError) as caught:
        cifar(root=str(root), **options)
    text = str(caught.value)
    assert "\n" not in text
    assert [part for part in parts if part not in text] == [], text


@versions
def test_cifar10_is_read_in_the_order_of_its_files(tmp_path: Path, dump: Dump | None) -> None:
    """Channels come first, and rows before columns, as in the files."""
    write_cifar10(tmp_path, TRAIN, TEST, dump)
    raw = cifar(root=str(tmp_path))
    assert raw.classes == tuple(names(10))
    assert raw.validation is None
    for split, images in ((raw.train, TRAIN), (raw.test, TEST)):
        assert split is not None
        assert np.array_equal(split.images.numpy(), images.data.reshape(-1, 3, 32, 32))
        assert split.labels.tolist() == images.fine.tolist()


@versions
@pytest.mark.parametrize("coarse", [False, True])
def test_cifar100_is_read_with_either_labels(tmp_path: Path, dump: Dump | None, coarse: bool) -> None:
    """Fine labels are the default; coarse ones have names of their own."""
    write_cifar100(tmp_path, SPLITS_100, 15, dump)
    raw = cifar(root=str(tmp_path), coarse=coarse)
    assert raw.classes == tuple(names(8, "super") if coarse else names(15))
    for split, images in ((raw.train, SPLITS_100["train"]), (raw.test, SPLITS_100["test"])):
        assert split is not None
        assert split.labels.tolist() == (images.coarse if coarse else images.fine).tolist()
        assert np.array_equal(split.images.numpy().reshape(-1, 3072), images.data)


def test_the_same_images_have_the_same_manifest_in_every_version(tmp_path: Path) -> None:
    """Neither the version nor the protocol of the pickles decides anything downstream."""
    digests, digests_100 = set(), set()
    for name, dump in DUMPS.items():
        write_cifar10(tmp_path / name, TRAIN, TEST, dump)
        data = select(Spec("cifar", {"root": str(tmp_path / name)}))
        digests.add(repr(store(tmp_path / "stored" / name, data)))
        write_cifar100(tmp_path / "100" / name, SPLITS_100, 15, dump)
        data = select(Spec("cifar", {"root": str(tmp_path / "100" / name)}))
        digests_100.add(repr(store(tmp_path / "stored_100" / name, data)))
    assert len(digests) == len(digests_100) == 1
    assert digests != digests_100


def test_labels_may_be_an_array_and_keys_bytes(tmp_path: Path) -> None:
    """Files that were read as bytes and written again have such content."""
    write_cifar10(tmp_path, TRAIN, TEST)
    content = {b"data": np.asfortranarray(TEST.data), b"labels": TEST.fine.astype("i4")}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(content, 2))
    raw = cifar(root=str(tmp_path))
    assert raw.test is not None
    assert raw.test.labels.tolist() == TEST.fine.tolist()
    assert np.array_equal(raw.test.images.numpy().reshape(-1, 3072), TEST.data)


class TestFolders:
    """The folder with the files, and which data set it has."""

    def test_the_root_may_be_the_folder_above(self, tmp_path: Path) -> None:
        """As it is after the archive was unpacked there."""
        write_cifar10(tmp_path / "ciFAIR-10", TRAIN, TEST)
        (tmp_path / "ciFAIR-10.zip").write_bytes(b"")
        assert cifar(root=str(tmp_path)).classes == tuple(names(10))

    def test_several_data_sets_are_refused_by_name(self, tmp_path: Path) -> None:
        """In one folder or in several next to each other; one of them as root is read, whatever is in folders below."""
        write_cifar10(tmp_path / "cifar-10-batches-py", TRAIN, TEST)
        write_cifar10(tmp_path / "ciFAIR-10", TRAIN, TEST)
        refused(tmp_path, "several data sets", "cifar-10-batches-py", "ciFAIR-10", "`root:`")
        assert cifar(root=str(tmp_path / "ciFAIR-10")).train is not None
        write_cifar10(tmp_path / "ciFAIR-10" / "backup", TEST, TRAIN)
        assert len(cifar(root=str(tmp_path / "ciFAIR-10")).classes) == 10
        write_cifar10(tmp_path / "ciFAIR-10", TRAIN, TEST, None)
        refused(tmp_path / "ciFAIR-10", "several data sets", "the Python version", "the binary version of CIFAR-10")

    def test_a_folder_without_the_files_is_refused(self, tmp_path: Path) -> None:
        """An archive that was not unpacked is named; folders called `train` are none of CIFAR's files."""
        refused(tmp_path / "absent", "absent: there is no such folder", "`root:`")
        (tmp_path / "train" / "cat").mkdir(parents=True)
        refused(tmp_path, "no files of CIFAR", "data_batch_1.bin", "`root:`")
        (tmp_path / "ciFAIR-10.zip").write_bytes(b"")
        refused(tmp_path, "unpack ciFAIR-10.zip")

    @pytest.mark.parametrize("dump", [python2, None])
    @pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
    def test_missing_files_are_named_with_those_that_belong_there(
        self, tmp_path: Path, dump: Dump | None, name: str
    ) -> None:
        """Also the file of the class names."""
        write_cifar10(tmp_path, TRAIN, TEST, dump)
        suffix = {"batches.meta": ".txt"}.get(name, ".bin") if dump is None else ""
        (tmp_path / f"{name}{suffix}").unlink()
        refused(tmp_path, f"lacks {name}{suffix};", f"CIFAR-10 has data_batch_1{'.bin' if dump is None else ''},")

    def test_the_names_of_the_other_labels_are_not_needed(self, tmp_path: Path) -> None:
        """Coarse names are read for coarse labels alone."""
        write_cifar100(tmp_path, SPLITS_100, 15, None)
        (tmp_path / "coarse_label_names.txt").unlink()
        assert len(cifar(root=str(tmp_path)).classes) == 15
        refused(tmp_path, "lacks coarse_label_names.txt", coarse=True)

    def test_cifar10_has_no_coarse_labels(self, tmp_path: Path) -> None:
        """The message names the option."""
        write_cifar10(tmp_path, TRAIN, TEST)
        refused(tmp_path, "CIFAR-10 has no coarse labels", "`coarse:`", coarse=True)


class TestDamage:
    """Files that are truncated, of another size or content."""

    @pytest.mark.parametrize("cut", [0, 1, 3072, 3074])
    def test_a_binary_file_of_another_size_is_named_with_the_right_one(self, tmp_path: Path, cut: int) -> None:
        """The size per image and of the published file are in the message."""
        write_cifar10(tmp_path, TRAIN, TEST, None)
        path = tmp_path / "data_batch_2.bin"
        path.write_bytes(path.read_bytes()[:cut])
        refused(tmp_path, f"data_batch_2.bin: has {cut} bytes", "3073 bytes per image, 30730000 in this file")
        write_cifar100(tmp_path / "100", SPLITS_100, 15, None)
        (tmp_path / "100" / "train.bin").write_bytes(bytes(3073))
        refused(tmp_path / "100", "train.bin: has 3073 bytes", "3074 bytes per image, 153700000 in this file")

    @pytest.mark.parametrize("dump", [python2, python3(4)])
    @pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.9999])
    def test_a_truncated_pickle_is_named(self, tmp_path: Path, dump: Dump, share: float) -> None:
        """Wherever it is cut."""
        write_cifar10(tmp_path, TRAIN, TEST, dump)
        path = tmp_path / "test_batch"
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
        refused(tmp_path, "test_batch: is damaged or no pickle", "unpack the published archive again")

    @pytest.mark.parametrize(
        ("content", "parts"),
        [
            ({"data": TEST.data}, ["no entry 'labels'", "the keys data"]),
            ([1, 2], ["no entry 'data'", "list"]),
            (batch(TEST, data=TEST.data[:, :100]), ["data uint8 (20, 100)", "expected data uint8 (N, 3072)"]),
            (batch(TEST, data=TEST.data.astype("i4")), ["data int32 (20, 3072)"]),
            (batch(TEST, data=TEST.data / 255), ["damaged array", "type f8"]),
            (batch(TEST, labels=[1]), ["labels (1,)", "labels (N,)"]),
            (batch(TEST, labels=["cat"] * 20), ["expected an integer, found str"]),
            (batch(TEST, labels=[10] + [0] * 19), ["image 0 has the label 10", "batches.meta names 10 classes"]),
            (batch(TEST, labels=[0, -1] + [0] * 18), ["image 1 has the label -1"]),
            (batch(TEST, labels=[1 << 70] * 20), ["damaged array"]),
            ({"data": TEST.data[:0], "labels": []}, ["data uint8 (0, 3072)"]),
        ],
    )
    def test_pickles_with_other_content_are_named(self, tmp_path: Path, content: Any, parts: list[str]) -> None:
        """The message states what the file has and what it should have."""
        write_cifar10(tmp_path, TRAIN, TEST)
        (tmp_path / "test_batch").write_bytes(pickle.dumps(content, 3))
        refused(tmp_path, "test_batch: ", *parts)

    @pytest.mark.parametrize(
        ("name", "content", "part"),
        [
            ("batches.meta", pickle.dumps({"label_names": 3}), "no list of names under 'label_names'"),
            ("batches.meta", pickle.dumps({"names": []}), "no entry 'label_names'"),
            ("batches.meta.txt", b"\xff\xfe", "expected one class name per line"),
            ("batches.meta.txt", b"a\r\nb\r\n", "batches.meta.txt names 2 classes"),
        ],
    )
    def test_files_of_class_names_are_checked(self, tmp_path: Path, name: str, content: bytes, part: str) -> None:
        """Labels without a name are refused."""
        write_cifar10(tmp_path, TRAIN, TEST, None if name.endswith("txt") else python2)
        (tmp_path / name).write_bytes(content)
        refused(tmp_path, part)

    def test_a_file_that_cannot_be_read_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """With the reason of the operating system."""

        def fail(_path: Path) -> bytes:
            raise PermissionError(13, "Permission denied")

        write_cifar10(tmp_path, TRAIN, TEST)
        monkeypatch.setattr(Path, "read_bytes", fail)
        refused(tmp_path, "batches.meta: cannot be read", "Permission denied")

    @pytest.mark.parametrize("name", ["data_batch_4", "test_batch", "batches.meta"])
    def test_a_malicious_pickle_is_refused_and_executes_nothing(self, tmp_path: Path, name: str) -> None:
        """The function that it names is in the message."""

        class Malicious:
            def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
                return os.system, (f"touch {tmp_path / 'done'}",)

        write_cifar10(tmp_path, TRAIN, TEST)
        (tmp_path / name).write_bytes(pickle.dumps(batch(TEST, label_names=names(10), filenames=Malicious()), 2))
        refused(tmp_path, f"{name}: contains more than", "system", "pickles are not executed")
        assert not (tmp_path / "done").exists()


def test_other_numbers_of_images_than_published_are_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A set that lacks images, or a selection, is noticed."""
    write_cifar10(tmp_path, TRAIN, TEST)
    with caplog.at_level(logging.WARNING, "gauntlet"):
        cifar(root=str(tmp_path))
    assert "53 training images; the published set has 50000" in caplog.text
    assert "20 test images; the published set has 10000" in caplog.text


def test_the_published_test_file_is_recognized(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CIFAR and ciFAIR differ in their test file alone, whatever the folder is called."""
    write_cifar10(tmp_path, TRAIN, TEST)
    digest = hashlib.md5((tmp_path / "test_batch").read_bytes()).hexdigest()
    with caplog.at_level(logging.INFO, "gauntlet"):
        cifar(root=str(tmp_path))
        assert "ciFAIR" not in caplog.text
        monkeypatch.setitem(module._TEST_FILES, digest, "ciFAIR-10")
        cifar(root=str(tmp_path))
    assert "the test images are those of ciFAIR-10" in caplog.text


def test_the_tags_are_the_shape_of_the_images(tmp_path: Path) -> None:
    """A configuration is checked with them before the files are read."""
    write_cifar10(tmp_path, TRAIN, TEST)
    train = cifar(root=str(tmp_path)).train
    tags = SOURCES.entry("cifar").tags
    assert train is not None
    assert train.image_shape == (tags["channels"], tags["side"], tags["side"])
