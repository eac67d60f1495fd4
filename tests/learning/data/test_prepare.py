"""Preparation of a data set, from its source to the stored splits."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from gauntlet.core.errors import InputError
from gauntlet.learning.data.manifest import load_data_manifest
from gauntlet.learning.data.prepare import PreparedData, channel_statistics, prepare
from gauntlet.learning.data.splits import sample_hashes, to_unit
from gauntlet.learning.data.store import load_split, write_splits
from gauntlet.registry import Spec

DIGITS = Spec("sklearn_digits")


@pytest.fixture(scope="module")
def digits() -> PreparedData:
    """The digits as the default experiment splits them."""
    return prepare(DIGITS)


@pytest.fixture
def stored(digits: PreparedData, tmp_path: Path) -> Path:
    """A folder with the stored digits."""
    write_splits(tmp_path / "digits", digits)
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


def test_channel_statistics_are_those_of_the_unit_images(digits: PreparedData) -> None:
    """Mean and deviation equal torch's on float images; a constant channel has deviation 1."""
    images = digits.splits["train"].images
    assert digits.mean[0] == pytest.approx(to_unit(images).mean().item(), abs=1e-6)
    assert digits.std[0] == pytest.approx(to_unit(images).std().item(), abs=1e-4)
    assert channel_statistics(torch.full((4, 1, 2, 2), 51, dtype=torch.uint8)) == ((0.2,), (1.0,))


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


def test_same_data_gives_the_same_bytes(digits: PreparedData, stored: Path, tmp_path: Path) -> None:
    """Preparing the same data twice writes equal files."""
    made_by = {"versions": "a", "config": "b", "another": "c"}
    write_splits(tmp_path / "one", digits, made_by)
    write_splits(tmp_path / "two", prepare(DIGITS), made_by)
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
