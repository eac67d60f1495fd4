"""Recognition of splits by names."""

from __future__ import annotations

import re

import pytest

from gauntlet.learning.data.split_names import WORDS, affixed_splits, exact_split, shard_number, split_name
from tests.support import ROOT

SPELLINGS = {
    "train": [
        *("train", "Train", "TRAIN", "training", "Training", "trn", "train_images", "train-images", "images_train"),
        *(
            "Training Images",
            "trainImages",
            "TrainSet",
            "trainset",
            "train_set",
            "train2017",
            "train_data",
            "train.png",
        ),
        *("training_set", "train1", "traindata"),
    ],
    "validation": [
        "val",
        "VAL",
        "valid",
        "validation",
        "Validation",
        "dev",
        "val2017",
        "val_images",
        "valset",
        "dev-set",
    ],
    "test": [
        "test",
        "Test",
        "testing",
        "tst",
        "eval",
        "evaluation",
        "test_images",
        "testset",
        "test1",
        "Testing Images",
    ],
}
CLASSES = [
    *("cat", "0", "1", "trainer", "strain", "attest", "testament", "valley", "devil", "value", "n01440764", "images"),
    *("rain", "contest", "valve", "latest", "", "_", "ツ"),
]


@pytest.mark.parametrize(("split", "name"), [(split, name) for split, names in SPELLINGS.items() for name in names])
def test_usual_spellings_of_splits_are_recognized(split: str, name: str) -> None:
    """Upper and lower case, separators, numbers and words such as "images" do not matter."""
    found = exact_split(name)
    assert found is not None
    assert found.split == split


@pytest.mark.parametrize("name", CLASSES)
def test_words_that_contain_a_split_are_no_split(name: str) -> None:
    """Only whole words count."""
    assert split_name(name) is None


@pytest.mark.parametrize("name", ["train_val", "train_test", "val-test", "trainval", "TrainVal", "traintest"])
def test_a_name_with_two_splits_is_none(name: str) -> None:
    """A name that contains two splits means neither."""
    assert exact_split(name) is None


def test_names_that_differ_in_their_split_alone_are_splits() -> None:
    """`seg_train` and `seg_test` are splits, the classes `bullet_train` and `test_tube` are not."""
    assert {name: found.split for name, found in affixed_splits(["seg_train", "seg_test", "seg_pred"]).items()} == {
        "seg_train": "train",
        "seg_test": "test",
    }
    assert affixed_splits(["bullet_train", "steam_train", "test_tube", "dress"]) == {}
    assert affixed_splits(["bullet_train", "bullet_dress"]) == {}


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("train-00001-of-00004", ("train", (1, 4))),
        ("train-00001-of-00004-ab12ef", ("train", (1, 4))),
        ("train", ("train", None)),
        ("train_2", ("train_2", None)),
    ],
)
def test_shards_are_recognized(stem: str, expected: object) -> None:
    """The numbers of a shard, and a digest after them, are separated from the name."""
    assert shard_number(stem) == expected


def test_the_words_in_the_documentation_are_those_in_use() -> None:
    """docs/data.md lists the words of every split."""
    rows = re.findall(r"^\| (\w+) \| ([\w, ]+) \|$", (ROOT / "docs" / "data.md").read_text(), flags=re.MULTILINE)
    assert {split: tuple(words.split(", ")) for split, words in rows if split != "split"} == WORDS
