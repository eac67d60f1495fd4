"""Preparation of a data set, from its source to the stored splits."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gauntlet.core.errors import InputError
from gauntlet.learning.data.manifest import load_data_manifest
from gauntlet.learning.data.prepare import PreparedData, prepare, select
from gauntlet.learning.data.raw_data import RawData
from gauntlet.learning.data.splits import Split, sample_hashes, to_unit
from gauntlet.learning.data.statistics import channel_statistics, count_duplicates, level_counts
from gauntlet.learning.data.store import store
from gauntlet.learning.data.stored_images import load_split
from gauntlet.registry import SOURCES, Spec

DIGITS = Spec("sklearn_digits")


@pytest.fixture(scope="module")
def digits() -> PreparedData:
    """The digits as the default experiment splits them."""
    return prepare(DIGITS)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A folder with the stored digits."""
    store(tmp_path / "digits", select(DIGITS))
    return tmp_path / "digits"


def test_the_splits_hold_every_digit_once(digits: PreparedData) -> None:
    """The splits hold the 1797 digits in the given proportions, on the full gray scale."""
    sizes = {name: len(split) for name, split in digits.splits.items()}
    assert sizes == {"train": 1150, "validation": 288, "test": 359}
    assert all(split.image_shape == (1, 8, 8) for split in digits.splits.values())
    images = torch.cat([split.images for split in digits.splits.values()])
    assert sorted(set(images.unique().tolist())) == [round(level * 255 / 16) for level in range(17)]


def test_classes_keep_their_share_in_every_split(digits: PreparedData) -> None:
    """Each class has its share of each split to within one image."""
    everything = torch.cat([split.labels for split in digits.splits.values()])
    share = torch.bincount(everything) / len(everything)
    for split in digits.splits.values():
        assert ((torch.bincount(split.labels) - share * len(split)).abs() <= 1.6).all()


def test_another_seed_gives_another_split_and_the_same_seed_the_same(digits: PreparedData) -> None:
    """The split is a function of the seed."""
    again, other = prepare(DIGITS, seed=0), prepare(DIGITS, seed=1)
    assert torch.equal(again.splits["test"].images, digits.splits["test"].images)
    assert not torch.equal(other.splits["test"].images, digits.splits["test"].images)


def test_a_limit_keeps_test_images_test_images(digits: PreparedData) -> None:
    """A limited split is a subset of the full one, so no test image is trained on."""
    small = prepare(DIGITS, limit={"train": 200, "test": 50})
    assert {name: len(split) for name, split in small.splits.items()} == {"train": 160, "validation": 40, "test": 50}
    full_test = set(sample_hashes(to_unit(digits.splits["test"].images)))
    assert set(sample_hashes(to_unit(small.splits["test"].images))) <= full_test


def test_half_of_test_divides_the_test_images_and_leaves_training_whole() -> None:
    """`half_of_test` splits the test images into validation and test."""
    prepared = prepare(DIGITS, validation="half_of_test", test=0.2)
    assert {name: len(split) for name, split in prepared.splits.items()} == {
        "train": 1438,
        "validation": 179,
        "test": 180,
    }


@pytest.mark.parametrize(("limit", "sizes"), [(100, (50, 50)), (101, (50, 51)), (359, (179, 180)), (None, (179, 180))])
def test_a_limit_keeps_the_halves_of_the_test_images_apart(limit: int | None, sizes: tuple[int, int]) -> None:
    """A validation image of a limited data set is no test image of the whole one, nor the other way round."""
    whole = select(DIGITS, validation="half_of_test").splits
    small = select(DIGITS, validation="half_of_test", limit={"train": 400, "test": limit}).splits
    assert (len(small["validation"]), len(small["test"])) == sizes
    for name in ("validation", "test"):
        assert set(small[name].indices.tolist()) <= set(whole[name].indices.tolist())


def test_channel_statistics_are_those_of_the_unit_images(digits: PreparedData) -> None:
    """Mean and deviation equal torch's on float images; a constant channel has deviation 1."""
    images = digits.splits["train"].images
    assert digits.mean[0] == pytest.approx(to_unit(images).mean().item(), abs=1e-6)
    assert digits.std[0] == pytest.approx(to_unit(images).std().item(), abs=1e-4)
    assert channel_statistics(level_counts(torch.full((4, 1, 2, 2), 51, dtype=torch.uint8))) == ((0.2,), (1.0,))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": {"train": 5}}, "no training image of class"),
        ({"test": 1e-9}, "the test split would be empty"),
        ({"validation": 1e-9}, "the validation split would be empty"),
    ],
)
def test_empty_splits_and_missing_classes_are_refused(options: dict[str, object], message: str) -> None:
    """A split that is empty or lacks a class is refused in one line."""
    with pytest.raises(InputError, match=message):
        prepare(DIGITS, **options)  # type: ignore[arg-type]


def test_a_constant_channel_has_the_standard_deviation_1() -> None:
    """Whatever its level and the number of pixels, for which the mean may be rounded to another number."""
    for count in (1, 7, 49, 360 * 64, 50_000 * 1024):
        assert channel_statistics(count * np.eye(256, dtype=np.int64))[1] == (1.0,) * 256


def test_a_stored_split_is_read_unchanged(digits: PreparedData, stored: Path) -> None:
    """Labels, pixels and manifest of a stored split are those written."""
    manifest = load_data_manifest(stored)
    assert manifest.image_shape == (1, 8, 8)
    assert manifest.num_classes == 10
    assert (manifest.mean, manifest.std) == (digits.mean, digits.std)
    for name, split in digits.splits.items():
        loaded = load_split(stored, name)
        assert torch.equal(loaded.images, split.images)
        assert torch.equal(loaded.labels, split.labels)
        assert manifest.sizes[name] == len(split)


def test_same_data_gives_the_same_bytes(stored: Path, tmp_path: Path) -> None:
    """Preparing the same data twice writes equal files."""
    made_by = {"versions": "a", "config": "b", "another": "c"}
    store(tmp_path / "one", select(DIGITS), lambda: made_by)
    store(tmp_path / "two", select(DIGITS), lambda: made_by)
    for file in sorted(path.name for path in (tmp_path / "one").iterdir()):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert (stored / "manifest.json").read_bytes() == (tmp_path / "one" / "manifest.json").read_bytes()


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _flip_a_pixel(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5000] ^= 1
    path.write_bytes(bytes(content))


def _swap(path: Path) -> None:
    shutil.copy(path.with_name("train.safetensors"), path)


def _pickle(path: Path) -> None:
    torch.save({"images": torch.zeros(1)}, path)


@pytest.mark.parametrize("damage", [_truncate, _flip_a_pixel, _swap, _pickle, Path.unlink])
def test_a_damaged_split_is_refused_by_name(stored: Path, damage: object) -> None:
    """A split that is truncated, edited, swapped, pickled or missing is refused with the remedy."""
    damage(stored / "test.safetensors")  # type: ignore[operator]
    with pytest.raises(InputError, match=r"test\.safetensors.*gauntlet prepare"):
        load_split(stored, "test")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"digest": "sha256:0"}'])
def test_a_damaged_manifest_is_refused(stored: Path, content: str) -> None:
    """A manifest of another form is refused by name."""
    (stored / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=r"manifest\.json"):
        load_data_manifest(stored)


def test_an_edited_manifest_is_refused(stored: Path) -> None:
    """A manifest that does not match its digest is refused."""
    path = stored / "manifest.json"
    path.write_text(path.read_text().replace('"num_classes": 10', '"num_classes": 11'))
    with pytest.raises(InputError, match="was edited"):
        load_data_manifest(stored)


def test_a_missing_data_folder_is_refused_with_the_command(tmp_path: Path) -> None:
    """The error names the command that prepares the data."""
    with pytest.raises(InputError, match="gauntlet prepare"):
        load_split(tmp_path / "absent", "test")


def split_of(labels: Sequence[int], *, start: int = 0, channels: int = 1) -> Split:
    """Return a split with the given labels, whose images have the values from `start` on."""
    values = torch.arange(start, start + len(labels), dtype=torch.uint8)
    return Split(
        values[:, None, None, None].expand(-1, channels, 4, 5).contiguous(), torch.tensor(labels, dtype=torch.int64)
    )


@pytest.fixture
def own_source(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Spec]:
    """Register a source that returns the given data."""

    def register(raw: Any) -> Spec:
        monkeypatch.setattr(SOURCES, "load", lambda _name: lambda: raw)
        return Spec("own")

    return register


class TestSourcesOfAnyKind:
    """Checks of what a source returns."""

    @pytest.mark.parametrize(
        ("raw", "message"),
        [
            ((None, None), "returned tuple; a data source returns RawData"),
            (RawData(split_of([0] * 9), None, None, ("a",)), "all 9 training images have the class 'a'; a classifier"),
            (RawData(split_of([1] * 9), None, None, ("a", "b")), "all 9 training images have the class 'b'"),
            (RawData(split_of([]), None, None, ("a", "b")), "the source has no training images"),
            (RawData(split_of([0, 1] * 4), split_of([]), None, ("a", "b")), "the source has no test images"),
            (
                RawData(split_of([1, 2] * 4), None, None, ("a", "b")),
                "the training labels run from 1 to 2 but there are 2",
            ),
            (RawData(split_of([0, 1]), split_of([0, 2]), None, ("a", "b")), "the test labels run from 0 to 2"),
            (RawData(split_of([0, 1]), split_of([2]), None, tuple("abc")), "the test images have classes without.*: c"),
            (RawData(split_of([0, 1]), None, split_of([2]), tuple("abc")), "the validation images have classes.*: c"),
            (
                RawData(split_of([0, 1]), split_of([0], channels=2), None, ("a", "b")),
                "different numbers of channels: training 1, test 2",
            ),
            (RawData(split_of([0, 1] * 4), None, None, ("a", "b\n")), "rename these classes"),
            (RawData((1, 2), None, None, ("a", "b")), "the training images are a tuple; a data source returns a Split"),
            (RawData(split_of([0, 1]), None, None, 2), "the class names are of type int; a data source"),
        ],
    )
    def test_data_that_cannot_be_used_are_refused(self, own_source: Any, raw: Any, message: str) -> None:
        """One class, labels that are no class, and splits that do not fit each other are refused in one line."""
        with pytest.raises(InputError, match=message) as caught:
            prepare(own_source(raw))
        assert "\n" not in str(caught.value)

    def test_a_source_that_raises_is_named_with_the_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Wrong types in a source of one's own give one line, not a traceback."""

        def wrong() -> RawData:
            return RawData(Split(torch.zeros(4, 1, 2, 2), torch.zeros(4)), None, None, ("a", "b"))

        monkeypatch.setattr(SOURCES, "load", lambda _name: wrong)
        with pytest.raises(
            InputError, match=r"own: raised ValueError: expected images as .* \(test_prepare\.py, line \d+\)"
        ):
            prepare(Spec("own"))

    def test_a_split_of_arrays_is_refused_as_one_of_arrays(self) -> None:
        """NumPy's types have the names of torch's, so the message names the kind of array."""
        images, labels = torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)
        expected = "expected {} as a tensor {}, got {}"
        for split, message in (
            ((images.numpy(), labels), ("images", r"uint8 \(N, C, H, W\)", r"ndarray uint8 \(4, 1, 2, 2\)")),
            ((images, labels.numpy()), ("labels", r"int64 \(4,\)", r"ndarray int64 \(4,\)")),
            ((images, labels.tolist()), ("labels", r"int64 \(4,\)", "list$")),
            ((images, labels[:3]), ("labels", r"int64 \(4,\)", r"Tensor int64 \(3,\)")),
        ):
            with pytest.raises(ValueError, match=expected.format(*message)):
                Split(*split)

    def test_classes_without_images_are_left_out(self, own_source: Any, caplog: pytest.LogCaptureFixture) -> None:
        """The other classes are numbered anew in the same order, in every split."""
        raw = RawData(split_of([1, 3] * 8), split_of([3, 1, 1], start=100), None, ("a", "b", "c", "d"))
        with caplog.at_level(logging.WARNING):
            prepared = prepare(own_source(raw))
        assert prepared.classes == ("b", "d")
        test = prepared.splits["test"]
        assert dict(zip(test.images[:, 0, 0, 0].tolist(), test.labels.tolist(), strict=True)) == {
            100: 1,
            101: 0,
            102: 0,
        }
        assert "classes without images are left out: a, c" in caplog.text

    def test_gray_splits_become_color_next_to_color(self, own_source: Any) -> None:
        """All splits have the channels of the one with color."""
        prepared = prepare(own_source(RawData(split_of([0, 1] * 8, channels=3), split_of([0, 1]), None, ("a", "b"))))
        assert all(split.image_shape == (3, 4, 5) for split in prepared.splits.values())

    def test_a_class_without_test_images_is_reported(self, own_source: Any, caplog: pytest.LogCaptureFixture) -> None:
        """Accuracy then covers fewer classes than the data set has."""
        raw = RawData(split_of([0, 1, 2] * 8), split_of([0, 2], start=100), None, ("a", "b", "c"))
        with caplog.at_level(logging.WARNING):
            prepare(own_source(raw))
        assert "no test image of class b" in caplog.text

    def test_a_limit_holds_for_an_own_validation_split_too(self, own_source: Any) -> None:
        """It has no share of the limited training images, and at most as many images as these."""
        raw = RawData(split_of([0, 1] * 20), split_of([0, 1] * 8), split_of([0, 1] * 10), ("a", "b"))
        small = prepare(own_source(raw), limit={"train": 12, "test": 6})
        assert {name: len(split) for name, split in small.splits.items()} == {"train": 12, "validation": 12, "test": 6}

    def test_settings_without_effect_are_reported(self, own_source: Any, caplog: pytest.LogCaptureFixture) -> None:
        """A limit above the number of images, and a validation split that is not used."""
        raw = RawData(split_of([0, 1] * 8), split_of([0, 1] * 4, start=50), split_of([0, 1], start=90), ("a", "b"))
        with caplog.at_level(logging.WARNING):
            prepare(own_source(raw), limit={"train": 99, "test": 5}, validation="half_of_test")
        assert "`limit: {train: 99}` has no effect on 16 images" in caplog.text
        assert "half_of_test` leaves out the 2 validation images" in caplog.text
        assert "limit: {test" not in caplog.text


class TestDuplicates:
    """Images that occur in two splits."""

    def test_images_of_two_splits_are_counted_and_reported(
        self, own_source: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The count is in the log and in the manifest, whatever the labels of the images."""
        train = split_of([0, 1] * 10)
        test = Split(
            torch.cat([train.images[:7], train.images[:1], split_of([0, 1], start=90).images]), torch.ones(10).long()
        )
        validation = Split(test.images[7:], torch.tensor([0, 1, 1]))
        source = own_source(RawData(train, test, validation, ("a", "b")))
        with caplog.at_level(logging.WARNING):
            prepared = prepare(source)
        expected = {"train/validation": 1, "train/test": 8, "validation/test": 4}
        assert prepared.duplicates == expected
        assert "own: 8 of 10 test images are training images too" in caplog.text
        assert "own: 4 of 10 test images are validation images too" in caplog.text
        assert store(tmp_path, select(source)).duplicates == expected
        assert load_data_manifest(tmp_path).duplicates == expected

    def test_images_of_the_same_bytes_in_another_shape_differ(self) -> None:
        """Only images with the same pixels are duplicates: one pixel makes a difference."""
        first, second = split_of([0, 1]), split_of([0, 1])
        second.images[0, 0, 3, 4] += 1
        hashes = {
            name: np.array([list(bytes.fromhex(text)) for text in sample_hashes(to_unit(split.images))], np.uint8)
            for name, split in (("train", first), ("test", second))
        }
        assert count_duplicates(hashes) == {"train/test": 1}

    def test_the_manifest_of_data_without_duplicates_has_no_such_key(self, stored: Path) -> None:
        """Its digest is that of earlier versions, so that nothing is redone."""
        assert "duplicates" not in (stored / "manifest.json").read_text()
        assert load_data_manifest(stored).digest.startswith("sha256:eda3fcf1cb1a8")
