"""Random folders and tables of images: every image is stored once, in its split and with its class, or all are refused.

Each image has one color, whose red identifies it through decoding, scaling and conversion to color.
"""

from __future__ import annotations

import io
import json
import logging
import os
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from gauntlet.core.errors import InputError
from gauntlet.learning.data.prepare import prepare
from gauntlet.registry import Spec
from tests.support.pictures import write

SPLITS = {
    "train": ("train", "Train", "TRAINING", "trn", "train_images", "trainset", "train2017"),
    "validation": ("val", "Valid", "VALIDATION", "dev", "val_images"),
    "test": ("test", "Testing", "TST", "eval", "test-images", "testset"),
}
CLASSES = [
    *(
        "cat",
        "dog",
        "0",
        "1",
        "10",
        "n01440764",
        "with space",
        "a'b",
        '"q"',
        "$HOME",
        "a;b",
        "*",
        "日本",
        "é",
        "-x",
        "#",
    ),
    *("bullet_train", "test_tube", "`x`", "$(x)", "a&b", "|", "\\", "%s", "{x}", "🐈", "a.png", "~"),
]
HIDDEN = (".ipynb_checkpoints", "__MACOSX", ".git", "@eaDir")
STRANGE = (
    *(
        *CLASSES,
        "train",
        "test",
        "val",
        "images",
        "data",
        "train_val",
        "trainval",
        "seg_train",
        "seg_test",
        "a\nb",
        "e\u0301",
    ),
    *("CON", "a\u202eb", " ", "nul", "\u00a0"),
)
MODES = ("L", "L", "L", "RGB", "RGBA", "LA", "P", "CMYK")


@dataclass
class Written:
    """Images that a test has written: split (None if not determined), possible classes and occurrences, by number."""

    split: dict[int, str | None] = field(default_factory=dict)
    name: dict[int, set[str]] = field(default_factory=dict)
    times: Counter[int] = field(default_factory=Counter)


def image(number: int, mode: str, size: tuple[int, int]) -> Image.Image:
    """Return an image whose red is `number` after conversion to RGB, and whose gray is `number` if it has no color."""
    if mode in ("L", "LA"):
        return Image.new("L", size, number).convert(mode)
    color = Image.new("RGB", size, (number, 0, 0))
    return color.convert(mode) if mode != "P" else color.convert("P", palette=Image.Palette.ADAPTIVE)


@cache
def encoded(number: int, mode: str, size: tuple[int, int]) -> bytes:
    """Return an image as the bytes of a file without loss."""
    buffer = io.BytesIO()
    image(number, mode, size).save(buffer, format="TIFF" if mode == "CMYK" else "PNG")
    return buffer.getvalue()


def check(spec: Spec, written: Written, accepted: list[bool]) -> None:
    """Prepare the data: one line of refusal, or every image as often as written, with its class and in its split."""
    try:
        prepared = prepare(spec, validation=0.25, test=0.25)
    except InputError as error:
        refusal = str(error)
    else:
        refusal = ""
    accepted.append(not refusal)
    if refusal:
        assert "\n" not in refusal
        assert len(refusal) < 1500
        return
    assert len(prepared.classes) >= 2
    found: Counter[int] = Counter()
    for split, data in prepared.splits.items():
        for number, label in zip(data.images[:, 0, 0, 0].tolist(), data.labels.tolist(), strict=True):
            found[number] += 1
            assert unicodedata.normalize("NFC", prepared.classes[label]) in written.name[number]
            # Images of training may be held out; those of other splits stay there.
            assert written.split[number] in (None, "train", split)
    assert found == written.times
    assert set(prepared.duplicates) == set()


@st.composite
def folder_layouts(draw: Any) -> list[tuple[tuple[str, ...], str | None, int]]:
    """Draw folders of images as path, split and number of images."""
    style = draw(st.sampled_from(["splits", "splits", "splits", "plain", "strange"]))
    names = draw(st.lists(st.sampled_from(CLASSES), min_size=2, max_size=4, unique=True))
    count = draw(st.integers(4, 7))
    if style == "strange":
        part = st.sampled_from(STRANGE) | st.text(min_size=1, max_size=4).filter(lambda text: "/" not in text)
        part = part.filter(
            lambda text: ("\0" not in text and text not in (".", "..") and text.isascii()) or text in STRANGE
        )
        paths = draw(st.lists(st.lists(part, min_size=1, max_size=3), min_size=1, max_size=6, unique_by=tuple))
        return [(tuple(path), None, count) for path in paths]
    if style == "plain":
        inner = draw(st.sampled_from([(), ("deeper",), ("a", "b")]))
        return [((name, *inner), "train", count) for name in names]
    above = draw(st.sampled_from([(), (), ("images",), ("archive", "my set")]))
    repeat = draw(st.integers(1, 2))
    chosen = ["train", *draw(st.lists(st.sampled_from(["validation", "test"]), unique=True))]
    folders = []
    for split in chosen:
        spelling = draw(st.sampled_from(SPLITS[split]))
        own = names if split == "train" else draw(st.permutations(names))[: draw(st.integers(1, len(names)))]
        folders += [((*above, *[spelling] * repeat, name), split, count if split == "train" else 2) for name in own]
    return folders


def write_folder(root: Path, draw: Callable[[Any], Any]) -> Written:
    """Write a drawn layout, with hidden entries and files of other kinds; return what it contains."""
    written, number = Written(), 0
    modes = draw(st.lists(st.sampled_from(MODES), min_size=1, max_size=3))
    sizes = draw(st.sampled_from([[(6, 6)], [(6, 6)], [(6, 6)], [(6, 6), (9, 7)]]))
    for path, split, count in draw(folder_layouts()):
        folder = root.joinpath(*path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        for _ in range(count):
            mode = modes[number % len(modes)]
            file = folder / f"{number} {'x' * (number % 3)}'.{'TIFF' if mode == 'CMYK' else 'png'}"
            image(number, mode, sizes[number % len(sizes)]).save(file, format="TIFF" if mode == "CMYK" else "PNG")
            written.split[number] = split
            written.name[number] = {unicodedata.normalize("NFC", part) for part in path}
            number += 1
    for name in draw(st.lists(st.sampled_from(HIDDEN), max_size=2, unique=True)):
        places = [place for place in root.rglob("*") if place.is_dir()]
        folder = draw(st.sampled_from([root, *places])) / name
        folder.mkdir(exist_ok=True)
        image(255, "L", (6, 6)).save(folder / "0.png")
    for name in draw(st.lists(st.sampled_from(["._0.png", "Thumbs.db", "notes.txt", "a.json"]), max_size=2)):
        places = [place for place in root.rglob("*") if place.is_dir()]
        (draw(st.sampled_from([root, *places])) / name).write_bytes(b"?")
    for _, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in HIDDEN and not name.startswith(".")]
        for file in files:
            if file.endswith((".png", ".TIFF")) and not file.startswith("."):
                written.times[int(file.split(" ")[0])] += 1
    return written


LABELS: dict[str, tuple[Any, Callable[[Any], str]]] = {
    "numbers": (st.lists(st.integers(0, 12), min_size=2, max_size=4, unique=True), str),
    "huge numbers": (st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=3, unique=True), str),
    "whole floats": (
        st.lists(st.integers(0, 9).map(float), min_size=2, max_size=3, unique=True),
        lambda x: str(int(x)),
    ),
    "floats": (st.lists(st.floats(width=32), min_size=2, max_size=3), lambda x: str(int(x))),
    "decimals": (st.just([Decimal("1.0"), Decimal("3.0")]), lambda x: str(int(x))),
    "text": (st.lists(st.sampled_from(CLASSES) | st.text(max_size=4), min_size=1, max_size=4, unique=True), str),
    "bytes": (st.lists(st.binary(max_size=3), min_size=2, max_size=3, unique=True), lambda x: x.decode()),
    "truth": (st.just([True, False]), str),
    "lists": (st.just([[0, 1], [1, 0]]), str),
    "structs": (st.just([{"a": 1}, {"a": 2}]), str),
    "with none": (st.just([0, 1, None]), str),
}
IMAGE_TYPES = (pa.binary(), pa.large_binary(), pa.binary_view(), "struct", "dictionary")
TABLE_STYLES = ("{split}", "data/{split}-{shard:05}-of-{shards:05}", "{split}/{shard:04}", "set_{split}", "x y/{split}")


STRANGE_STEMS = (
    *("train", "training", "Train", "train-00000-of-00001", "train-00000-of-00002", "train-00001-of-00002", "train_2"),
    *("test", "test-00000-of-00001", "eval", "val", "validation", "mnist_train", "mnist_test", "train_val", "trainval"),
)
STRANGE_FOLDERS = (
    "",
    "",
    "",
    "small/",
    "large/",
    "data/",
    "train/",
    "test/",
    "a/train/",
    "with space/",
    "split=train/",
)


@st.composite
def table_names(draw: Any) -> list[tuple[str, str | None]]:
    """Draw the files of a data set, without suffix, and their splits (None if the names do not determine them)."""
    if not draw(st.integers(0, 3)):
        strange = st.tuples(st.sampled_from(STRANGE_FOLDERS), st.sampled_from(STRANGE_STEMS)).map("".join)
        return [(stem, None) for stem in draw(st.lists(strange, min_size=1, max_size=4, unique_by=str.lower))]
    style = draw(st.sampled_from(TABLE_STYLES))
    shards = draw(st.integers(1, 2)) if "shard" in style else 1
    chosen = ["train", *draw(st.lists(st.sampled_from(["validation", "test"]), unique=True))]
    spellings = [draw(st.sampled_from(SPLITS[split])) for split in chosen]
    return [
        (style.format(split=spelling, shard=shard, shards=shards), split)
        for split, spelling in zip(chosen, spellings, strict=True)
        for shard in range(shards)
    ]


def image_column(contents: Sequence[bytes | None], kind: Any) -> pa.Array:
    """Return a column of encoded images of some type."""
    if kind == "struct":
        return pa.array([{"bytes": content, "path": "x"} for content in contents])
    if kind == "dictionary":
        return pa.array(contents, pa.binary()).dictionary_encode()
    return pa.array(contents, kind)


def write_tables(root: Path, draw: Callable[[Any], Any]) -> Written:
    """Write drawn tables of one data set; return what they contain."""
    written, number = Written(), 0
    kind = draw(st.sampled_from([*LABELS, *["names"] * 4, *["numbers"] * 4, *["text"] * 2]))
    image_type = draw(st.sampled_from(IMAGE_TYPES))
    label = draw(st.sampled_from(["label", "label", "labels", "tag", "two\nlines", "a.b"]))
    modes = draw(st.lists(st.sampled_from(MODES), min_size=1, max_size=3))
    damaged = draw(st.sampled_from([None] * 8 + [0, 1, 5]))
    names = draw(st.lists(st.sampled_from(CLASSES), min_size=2, max_size=4, unique=True))
    values, name_of = LABELS.get(kind, (st.just(names), str))
    values = draw(values)
    categories = kind in ("text", "numbers") and draw(st.booleans())
    for stem, split in draw(table_names()):
        order = draw(st.permutations(names))
        rows = range(number, number + (3 if split in ("validation", "test") else len(values) * 6))
        labels = [values[row % len(values)] for row in rows]
        contents: list[bytes | None] = [encoded(row, modes[row % len(modes)], (6, 6)) for row in rows]
        if damaged in rows:
            contents[0] = draw(st.sampled_from([None, b"", b"?", encoded(0, "L", (6, 6))[:40]]))
        try:
            column = pa.array([order.index(value) for value in labels] if kind == "names" else labels)
        except (pa.ArrowException, OverflowError):
            return Written()
        table = pa.table({"image": image_column(contents, image_type), label: column})
        if categories:
            table = table.set_column(1, label, column.dictionary_encode())
        if kind == "names":
            features = {label: {"names": list(order)}}
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        write(table, root / f"{stem}.parquet")
        for row, value in zip(rows, labels, strict=True):
            try:
                written.name[row] = {unicodedata.normalize("NFC", name_of(value))}
            except (ValueError, OverflowError):
                written.name[row] = set()
            written.split[row] = split
            written.times[row] = 1
        number = rows.stop
    if draw(st.booleans()):
        name = draw(st.sampled_from(["metadata", ".train", ".git/train"]))
        write(pa.table({"x": [1]}), root / f"{name}.parquet")
    return written


_ACCEPTED, _ROUNDS = 0.1, 3
"""Least share of accepted data sets, and number of rounds of examples to reach it."""


def run(source: str, writes: Callable[[Path, Any], Written], examples: int) -> None:
    """Write and prepare random data sets; a share must be accepted, or the test would show little."""
    accepted: list[bool] = []

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
    @given(st.data())
    def example(data: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "my data's $set"
            root.mkdir()
            written = writes(root, data.draw)
            options: dict[str, Any] = {"root": str(root), "size": data.draw(st.sampled_from([None, None, 4]))}
            check(Spec(source, options), written, accepted)

    # Hypothesis varies what it has drawn, so that the examples of one round resemble each other, refusals too.
    for _ in range(_ROUNDS):
        example()
        if sum(accepted) > _ACCEPTED * len(accepted):
            break
    assert sum(accepted) > _ACCEPTED * len(accepted)


WRITERS = {"imagefolder": write_folder, "parquet": write_tables}


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Leave warnings out of the report of a failure."""
    caplog.set_level(logging.ERROR, "gauntlet")


@pytest.mark.parametrize("source", WRITERS)
def test_random_data_are_stored_whole_or_refused_in_one_line(source: str) -> None:
    """No traceback, no image lost, read twice, or with another class."""
    run(source, WRITERS[source], 40)


@pytest.mark.slow
@pytest.mark.parametrize("source", WRITERS)
def test_many_random_data_are_stored_whole_or_refused_in_one_line(source: str) -> None:
    """The same with as many examples as CI has time for."""
    run(source, WRITERS[source], 400)
