"""Layouts of image folders: splits, classes, hidden entries, links, strange names."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from gauntlet.core.errors import InputError
from gauntlet.learning.data.prepare import prepare
from gauntlet.learning.data.raw_data import RawData
from gauntlet.learning.data.sources.imagefolder import imagefolder
from gauntlet.registry import Spec
from tests.support.pictures import decoded, folder_of, picture


def sizes(raw: RawData) -> tuple[int, int, int]:
    """Return the number of training, validation and test images; 0 for a split that there is not."""
    return len(raw.train), len(raw.validation or ()), len(raw.test or ())


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train", "val", "test"),
        ("training", "validation", "testing"),
        ("trn", "valid", "tst"),
        ("Train", "Dev", "Eval"),
        ("TRAIN", "VALID", "TEST"),
        ("train_images", "val_images", "test_images"),
        ("images/train", "images/val", "images/test"),
        ("mnist_png/training", "mnist_png/validation", "mnist_png/testing"),
        ("archive/set/Training Images", "archive/set/Validation Images", "archive/set/Testing Images"),
        ("seg_train/seg_train", "seg_val/seg_val", "seg_test/seg_test"),
        ("train/train", "val/val", "test/test"),
        ("train/images", "val/images", "test/images"),
        ("train2017", "val2017", "test2017"),
    ],
)
def test_splits_are_recognized_in_every_usual_spelling(tmp_path: Path, train: str, validation: str, test: str) -> None:
    """Folders named after splits are splits, not classes."""
    for folder, count in ((train, 3), (validation, 1), (test, 2)):
        folder_of(tmp_path / folder, {"0": count, "1": count, "2": count})
    raw = imagefolder(root=str(tmp_path))
    assert raw.classes == ("0", "1", "2")
    assert sizes(raw) == (9, 3, 6)


def test_folders_of_another_kind_next_to_the_splits_do_not_matter(tmp_path: Path) -> None:
    """Folders without images, such as annotations, are no classes."""
    for folder in ("images/train", "images/test"):
        folder_of(tmp_path / folder, {"a": 2, "b": 2})
    for folder in ("annotations", "images/labels"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "all.txt").write_text("")
    assert sizes(imagefolder(root=str(tmp_path))) == (4, 0, 4)


def test_classes_may_contain_the_word_of_a_split(tmp_path: Path) -> None:
    """Classes of vehicles and of laboratory glass are classes."""
    folder_of(tmp_path / "a", {"bullet_train": 2, "steam_train": 2, "test_tube": 2, "trainer": 2})
    assert sizes(imagefolder(root=str(tmp_path / "a"))) == (8, 0, 0)
    for split in ("train", "test"):
        folder_of(tmp_path / "b" / split, {"car": 2, "train": 2})
    raw = imagefolder(root=str(tmp_path / "b"))
    assert raw.classes == ("car", "train")
    assert sizes(raw) == (4, 0, 4)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (["train/a", "train/b", "Train/a", "Train/b"], "the split train twice: Train, train"),
        (["train/a", "train/b", "val/a", "valid/a"], "the split validation twice: val, valid"),
        (["train", "car", "bus"], r"named as splits \(train\) next to others \(bus, car\)"),
        (["seg_train/a", "seg_train/b", "seg_test/a", "seg_pred"], r"next to others \(seg_pred\)"),
        (["trainval/a", "trainval/b", "test/a"], "next to others"),
        (["val/a", "val/b"], "no training images"),
        (["val/a", "test/b"], r"contains 1 class folders \(b\)"),
        (["small/train/a", "small/train/b", "large/train/a"], r"in each of large, small.*`root:` to one data set"),
        (["cat/train", "cat/test", "dog/train", "dog/test"], "in each of cat, dog.*expected SPLIT/CLASS/IMAGE"),
        (["cat/train", "dog"], "images next to it"),
        (["color/cat", "color/dog", "gray/cat", "gray/dog"], r"same folders in each of color, gray: cat, dog.*`root:`"),
        (["train/a/x", "train/a/y", "train/b/x", "train/b/y", "test/a"], "same folders in each of a, b: x, y"),
        (["train", "test"], "images outside the folders of classes: 0.png, 1.png"),
        (["train/a", "train/b", "test"], "test: contains images outside"),
        (["a", "b", ""], "images outside the folders of classes"),
        (["train/a", "train/b", "train/val/a", "train/val/b"], "named as splits below"),
        (["train/a", "train/b/test"], "named as splits below"),
        (["train/a", "train/b", "test/a", "test/c"], "without training images: c"),
        (["train/a"], r"contains 1 class folders \(a\)"),
        (["train/images", "test/images"], r"contains 1 class folders \(images\)"),
    ],
)
def test_ambiguous_layouts_are_refused_in_one_line(tmp_path: Path, layout: list[str], message: str) -> None:
    """If splits and classes cannot be distinguished, nothing is read."""
    for folder in layout:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for number in range(2):
            picture(number).save(tmp_path / folder / f"{number}.png")
    with pytest.raises(InputError, match=message) as caught:
        imagefolder(root=str(tmp_path))
    assert "\n" not in str(caught.value)


def test_images_may_be_in_folders_below_their_class(tmp_path: Path) -> None:
    """Folders below a class are part of it, as in torchvision."""
    folder_of(tmp_path / "animals", {"cat": 2, "dog": 2})
    folder_of(tmp_path / "vehicles", {"car": 2, "dog": 2})
    raw = imagefolder(root=str(tmp_path))
    assert raw.classes == ("animals", "vehicles")
    assert sizes(raw) == (8, 0, 0)


def test_the_same_classes_in_another_order_are_matched_by_name(tmp_path: Path) -> None:
    """The numbers of classes are those of training, also where a test class has no image."""
    folder_of(tmp_path / "train", {"cat": 2, "dog": 2, "eel": 1})
    folder_of(tmp_path / "test", {"dog": 1, "eel": 2})
    (tmp_path / "test" / "ant").mkdir()
    raw = imagefolder(root=str(tmp_path))
    assert raw.test is not None
    assert raw.test.labels.tolist() == [1, 2, 2]


def test_hidden_and_system_entries_are_no_classes_and_no_images(tmp_path: Path) -> None:
    """Checkpoints of notebooks, folders of git and of macOS, and thumbnails are left out."""
    folder_of(tmp_path / "train", {"a": 2, "b": 2})
    for folder in (".ipynb_checkpoints", ".git", "__MACOSX", "train/.ipynb_checkpoints", "train/a/.ipynb_checkpoints"):
        (tmp_path / folder).mkdir()
        picture(1).save(tmp_path / folder / "0.png")
    for name in ("._0.png", "Thumbs.db", ".DS_Store", "desktop.ini"):
        (tmp_path / "train" / "a" / name).write_bytes(b"nothing")
        (tmp_path / name).write_bytes(b"nothing")
    assert sizes(imagefolder(root=str(tmp_path))) == (4, 0, 0)


def test_links_to_folders_and_images_are_followed(tmp_path: Path) -> None:
    """A linked split, class, folder below a class, and image are read, as torchvision reads them."""
    folder_of(tmp_path / "elsewhere", {"a": 2, "b": 2})
    folder_of(tmp_path / "set" / "train", {"a": 1, "c": 1})
    (tmp_path / "set" / "train" / "b").symlink_to(tmp_path / "elsewhere" / "b")
    (tmp_path / "set" / "train" / "a" / "more").symlink_to(tmp_path / "elsewhere" / "a")
    (tmp_path / "set" / "train" / "c" / "1.png").symlink_to(tmp_path / "elsewhere" / "a" / "1.png")
    (tmp_path / "set" / "test").symlink_to(tmp_path / "elsewhere")
    raw = imagefolder(root=str(tmp_path / "set"))
    assert raw.train.labels.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert sizes(raw) == (7, 0, 4)


def test_links_in_a_circle_and_to_nothing_are_refused(tmp_path: Path) -> None:
    """A link that cannot be followed is named."""
    folder_of(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "a" / "circle").symlink_to(tmp_path)
    with pytest.raises(InputError, match=r"circle.*contains it"):
        imagefolder(root=str(tmp_path))
    (tmp_path / "a" / "circle").unlink()
    (tmp_path / "c").symlink_to(tmp_path / "absent")
    with pytest.raises(InputError, match="c: is a link to nothing"):
        imagefolder(root=str(tmp_path))


@pytest.mark.parametrize(
    "name", ["with space", "a'b", 'a"b', "$HOME", "a;b", "a&b", "(1)", "*", "日本", "é", "-a", "#"]
)
def test_names_of_folders_may_have_any_printable_characters(tmp_path: Path, name: str) -> None:
    """Spaces, characters of shells and other scripts are part of a name."""
    folder_of(tmp_path / name, {name: 2, "x": 2})
    assert set(imagefolder(root=str(tmp_path / name)).classes) == {name, "x"}


def test_two_encodings_of_an_accent_are_one_name(tmp_path: Path) -> None:
    """A class whose name macOS wrote in another form is the same class."""
    folder_of(tmp_path / "train", {"caf\u00e9": 2, "x": 2})
    folder_of(tmp_path / "test", {"cafe\u0301": 1, "x": 1})
    raw = imagefolder(root=str(tmp_path))
    assert raw.test is not None
    assert raw.test.labels.tolist() == [0, 1]
    folder_of(tmp_path / "train" / "more", {"x": 1})
    folder_of(tmp_path / "train", {"cafe\u0301": 1})
    with pytest.raises(InputError, match="look the same"):
        imagefolder(root=str(tmp_path))


@pytest.mark.parametrize("name", ["a\nb", "a\tb", "a\udcffb"])
def test_class_names_that_cannot_be_printed_are_refused_in_one_line(tmp_path: Path, name: str) -> None:
    """Line breaks and bytes that are no text cannot name a class."""
    folder_of(tmp_path, {name: 2, "x": 2})
    with pytest.raises(InputError, match="rename these classes") as caught:
        prepare(Spec("imagefolder", {"root": str(tmp_path), "size": None}))
    assert str(caught.value).isprintable()


def test_a_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`root: ~/pics` is a folder in the home folder."""
    folder_of(tmp_path / "pics", {"a": 2, "b": 2})
    monkeypatch.setenv("HOME", str(tmp_path))
    assert sizes(imagefolder(root="~/pics")) == (4, 0, 0)
    with pytest.raises(InputError, match="home folder"):
        imagefolder(root="~nobody-of-this-name/pics")


def test_files_that_are_not_read_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A count per suffix shows that images of an unknown format are left out."""
    folder_of(tmp_path, {"a": 2, "b": 2})
    for number in range(3):
        (tmp_path / "a" / f"{number}.heic").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        imagefolder(root=str(tmp_path))
    assert "not read as images: .heic (3)" in caplog.text


def test_a_gray_split_becomes_color_if_another_has_color(tmp_path: Path) -> None:
    """One color image of training makes all splits color (report of X-rays)."""
    folder_of(tmp_path / "train", {"normal": 5}, mode="L")
    folder_of(tmp_path / "train", {"ill": 4}, mode="L")
    picture(9).save(tmp_path / "train" / "ill" / "color.png")
    folder_of(tmp_path / "test", {"normal": 2, "ill": 2}, mode="L")
    prepared = prepare(Spec("imagefolder", {"root": str(tmp_path), "size": None}))
    assert all(split.image_shape == (3, 6, 6) for split in prepared.splits.values())
    test = prepared.splits["test"].images
    assert torch.equal(test[:, 0], test[:, 1])
    shutil.rmtree(tmp_path / "train" / "ill")
    folder_of(tmp_path / "train", {"ill": 5}, mode="L")
    folder_of(tmp_path / "val", {"normal": 2, "ill": 2})
    prepared = prepare(Spec("imagefolder", {"root": str(tmp_path), "size": None}))
    assert all(split.image_shape == (3, 6, 6) for split in prepared.splits.values())


def test_splits_of_different_sizes_need_a_size(tmp_path: Path) -> None:
    """The message names the sizes and the key."""
    folder_of(tmp_path / "train", {"a": 5, "b": 5})
    folder_of(tmp_path / "test", {"a": 2, "b": 2}, size=(8, 6))
    with pytest.raises(InputError, match="training 6x6, test 6x8; set `size:`"):
        prepare(Spec("imagefolder", {"root": str(tmp_path), "size": None}))
    assert prepare(Spec("imagefolder", {"root": str(tmp_path), "size": 4})).splits["test"].image_shape == (3, 4, 4)


def test_an_orientation_is_reported_and_not_applied(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Pixels are as torchvision's ImageFolder reads them, whatever the EXIF orientation."""
    folder_of(tmp_path, {"a": 2, "b": 2})
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image = picture(0)
    image.putpixel((5, 0), (0, 200, 0))
    image.save(tmp_path / "a" / "turned.png", exif=exif)
    with caplog.at_level(logging.WARNING):
        raw = imagefolder(root=str(tmp_path))
    assert raw.train.images[2, 1, 0, 5] == 200
    assert "1 images have an EXIF orientation" in caplog.text


@pytest.mark.parametrize(("suffix", "orientation"), [("tif", 6), ("png", 0), ("jpg", 9)])
def test_an_orientation_that_is_applied_or_means_nothing_is_not_reported(
    suffix: str, orientation: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Pillow turns TIFF files when it reads them; the orientations are 1 to 8."""
    folder_of(tmp_path, {"a": 2, "b": 2})
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image = picture(0)
    image.putpixel((0, 0), (0, 200, 0))
    image.save(tmp_path / "a" / f"turned.{suffix}", exif=exif)
    with caplog.at_level(logging.WARNING):
        images = imagefolder(root=str(tmp_path)).train.images
    assert "orientation" not in caplog.text
    if suffix != "jpg":
        assert np.argwhere(images[2, 1].numpy() == 200).tolist() == [[0, 5 if suffix == "tif" else 0]]


def _animation(path: Path) -> None:
    picture(1).save(path.with_suffix(".gif"), save_all=True, append_images=[picture(90), picture(180)])


def _pages(path: Path) -> None:
    picture(1).save(path.with_suffix(".tif"), save_all=True, append_images=[picture(2)])


def _huge(path: Path) -> None:
    Image.new("1", (15_000, 15_000)).save(path)


def _deep(path: Path) -> None:
    Image.new("I;16", (6, 6), 60_000).save(path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (_animation, "x.gif: contains 3 images"),
        (_pages, "x.tif: contains 2 images"),
        (_huge, r"x\.png: has more pixels than Pillow reads \(178956970\); make it smaller"),
        (_deep, "x.png: has pixels of mode I;16"),
        (lambda path: path.write_bytes(b""), "x.png: is empty"),
        (lambda path: path.write_text("<html>"), "x.png: is damaged or not an image"),
    ],
)
def test_files_that_are_no_single_image_of_8_bits_are_named(tmp_path: Path, write: object, message: str) -> None:
    """The message states what is wrong with the file."""
    folder_of(tmp_path, {"a": 2, "b": 2})
    write(tmp_path / "b" / "x.png")  # type: ignore[operator]
    with pytest.raises(InputError, match=message):
        decoded(imagefolder(root=str(tmp_path), size=6))


def test_transparency_is_dropped(tmp_path: Path) -> None:
    """An image with an alpha channel has the colors that it stores, as in torchvision."""
    folder_of(tmp_path, {"a": 1, "b": 1})
    Image.new("RGBA", (6, 6), (9, 8, 7, 0)).save(tmp_path / "a" / "1.png")
    assert imagefolder(root=str(tmp_path)).train.images[1, :, 0, 0].tolist() == [9, 8, 7]
