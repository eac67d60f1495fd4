"""Recognition of splits by the names of folders and files, in every usual spelling.

The words are those of the Hugging Face datasets library, in which ``dev`` means validation and ``eval`` means test,
with the usual abbreviations.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

WORDS = {
    "train": ("train", "training", "trn"),
    "validation": ("validation", "valid", "validate", "validating", "val", "dev", "development"),
    "test": ("test", "testing", "tst", "eval", "evaluation"),
}
"""Words that name each split, in lower case."""

_FILLERS = frozenset(
    (
        *("data", "dataset", "set", "split", "splits", "folder", "dir", "file", "files", "part", "default"),
        *("image", "images", "img", "imgs", "pic", "pics", "picture", "pictures", "photo", "photos"),
        *("png", "pngs", "jpg", "jpgs", "jpeg", "jpegs"),
    )
)
"""Words that may accompany the word of a split without a meaning of their own: ``train_images``, ``test_set``."""

_SPLIT_OF = {word: split for split, words in WORDS.items() for word in words}
_GLUED = re.compile(rf"({'|'.join(sorted(_SPLIT_OF, key=len, reverse=True))})({'|'.join(sorted(_FILLERS))})?\d*")
_TWO = re.compile(r"({0})({0})".format("|".join(sorted(_SPLIT_OF, key=len, reverse=True))), re.IGNORECASE)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SHARD = re.compile(r"[-_.]?(\d+)[-_]of[-_](\d+).*$")


@dataclass(frozen=True)
class SplitName:
    """A name that contains the word of one split: `split`, the `word` as spelled, and the `rest` of the name.

    `rest` has the words that are neither numbers nor fillers, in lower case: ``("seg",)`` for ``seg_train``.
    """

    split: str
    word: str
    rest: tuple[str, ...]


@cache
def words_of(name: str) -> tuple[str, ...]:
    """Split a name into its words, as spelled: ``trainImages_2`` into ``train``, ``Images``, ``2``."""
    words: list[str] = []
    for part in re.split(r"[\W_]+", name):
        for word in filter(None, _CAMEL.split(part)):
            two = _TWO.fullmatch(word)  # "trainval" names two splits
            words += two.groups() if two else [word]
    return tuple(words)


def is_filler(name: str) -> bool:
    """Return whether a name has no meaning of its own, as ``images`` and ``data``."""
    words = words_of(name)
    return bool(words) and all(word.lower() in _FILLERS or word.isdigit() for word in words)


@cache
def split_name(name: str) -> SplitName | None:
    """Recognize the split in a name; return None unless exactly one of its words names a split."""
    found: list[tuple[str, str]] = []
    rest: list[str] = []
    for word in words_of(name):
        glued = _GLUED.fullmatch(word.lower())
        if glued:
            found.append((_SPLIT_OF[glued[1]], word))
        elif word.lower() not in _FILLERS and not word.isdigit():
            rest.append(word.lower())
    return SplitName(*found[0], tuple(rest)) if len(found) == 1 else None


def exact_split(name: str) -> SplitName | None:
    """Recognize a name that means a split and nothing else: ``Train``, ``test_images``, ``val2017``."""
    named = split_name(name)
    # "train-train" and "test_set_test" mean their split too.
    if named is None:
        both = {split_name(word) for word in words_of(name) if not is_filler(word)}
        splits = {part.split for part in both if part is not None}
        return SplitName(splits.pop(), name, ()) if None not in both and len(splits) == 1 else None
    return named if not named.rest else None


def affixed_splits(names: Iterable[str]) -> dict[str, SplitName]:
    """Recognize names that differ in their split alone: ``seg_train`` and ``seg_test``.

    At least two splits, one of them for training, must share the rest of their names: the classes ``bullet_train``,
    ``steam_train`` and ``test_tube`` are no splits.
    """
    named = {name: found for name in names if (found := split_name(name)) is not None and found.rest}
    splits: dict[tuple[str, ...], set[str]] = {}
    for found in named.values():
        splits.setdefault(found.rest, set()).add(found.split)
    return {
        name: found for name, found in named.items() if "train" in splits[found.rest] and len(splits[found.rest]) > 1
    }


def shard_number(stem: str) -> tuple[str, tuple[int, int] | None]:
    """Return a file's name without its shard, and the shard: ``train-00001-of-00004-ab12`` is 1 of 4 of ``train``."""
    match = _SHARD.search(stem)
    return (stem[: match.start()], (int(match[1]), int(match[2]))) if match else (stem, None)
