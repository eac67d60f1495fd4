"""Stored data sets: streamed to disk, mapped when read, checked chunk by chunk."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import safetensors.torch
import torch

from gauntlet.core.errors import GauntletError, InputError
from gauntlet.core.tensors import tensor_digest
from gauntlet.learning.data import split_file
from gauntlet.learning.data.batches import Batches
from gauntlet.learning.data.blocks import Block
from gauntlet.learning.data.decoding_processes import stored_blocks
from gauntlet.learning.data.manifest import load_data_manifest
from gauntlet.learning.data.prefetching import prefetched
from gauntlet.learning.data.prepare import prepare, select
from gauntlet.learning.data.residence import resident
from gauntlet.learning.data.splits import Split, sample_hashes, to_unit
from gauntlet.learning.data.store import store
from gauntlet.learning.data.stored_images import StoredSplit, UnitImages, load_split, open_split
from gauntlet.registry import Spec
from tests.support.killing_sink import KILLER
from tests.support.pictures import folder_of, picture, table_of, write

CPU = torch.device("cpu")


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a chunk have two of the images of these tests."""
    monkeypatch.setattr(split_file, "_CHUNK_BYTES", 2 * 108)


@pytest.fixture
def pictures(tmp_path: Path) -> Spec:
    """A folder of 40 images in two classes, one of them in color."""
    folder_of(tmp_path / "raw", {"a": 20, "b": 19}, mode="L")
    picture(77).save(tmp_path / "raw" / "b" / "color.png")
    return Spec("imagefolder", {"root": str(tmp_path / "raw")})


@pytest.fixture
def folder(pictures: Spec, small_chunks: None, tmp_path: Path) -> Path:
    """A folder with the stored images."""
    store(tmp_path / "stored", select(pictures))
    return tmp_path / "stored"


def test_stored_images_are_those_in_memory(pictures: Spec, folder: Path) -> None:
    """Splits, order, statistics, digests and sample hashes are those of the data set in memory."""
    prepared, manifest = prepare(pictures), load_data_manifest(folder)
    assert (manifest.mean, manifest.std, manifest.classes) == (prepared.mean, prepared.std, prepared.classes)
    for name, split in prepared.splits.items():
        stored = open_split(folder, name)
        images = stored.load().images
        assert torch.equal(images, split.images)
        assert torch.equal(stored.labels, split.labels)
        assert manifest.digests[name] == tensor_digest({"images": split.images, "labels": split.labels})
        assert UnitImages(stored).hashes(slice(None)) == sample_hashes(to_unit(split.images))


@pytest.mark.parametrize("kind", ["imagefolder", "parquet"])
def test_several_processes_store_the_same_bytes(kind: str, tmp_path: Path) -> None:
    """Decoding in two processes and in this one writes equal files."""
    if kind == "imagefolder":
        folder_of(tmp_path / "raw", {"a": 150, "b": 150}, mode="L")
        picture(77).save(tmp_path / "raw" / "b" / "color.png")
    else:
        write(table_of([0, 1] * 150), tmp_path / "raw" / "train.parquet")
    spec = Spec(kind, {"root": str(tmp_path / "raw")})
    for processes in (0, 2):
        store(tmp_path / str(processes), select(spec), processes=processes)
    names = sorted(path.name for path in (tmp_path / "0").iterdir())
    assert names == ["manifest.json", "test.safetensors", "train.safetensors", "validation.safetensors"]
    for name in names:
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_the_first_damaged_image_of_the_source_is_named_whatever_the_processes(tmp_path: Path) -> None:
    """An error in another process is the line that this process would have printed, and nothing is left."""
    folder_of(tmp_path / "raw", {"a": 200, "b": 200})
    for name in ("a/x.png", "b/y.png"):
        (tmp_path / "raw" / name).write_bytes(b"?")
    data = select(Spec("imagefolder", {"root": str(tmp_path / "raw")}))
    for processes in (0, 1):
        with pytest.raises(InputError, match=r"a/x\.png: is damaged or not an image; replace or remove it"):
            store(tmp_path / "stored", data, processes=processes)
    assert list((tmp_path / "stored").iterdir()) == []


def test_a_killed_decoding_process_is_an_error() -> None:
    """Not a hang, and not a traceback."""
    block, slots = Block([np.zeros((1, 2, 2), np.uint8)], ["x"]), np.zeros((1, 2), np.int64)
    with pytest.raises(GauntletError, match="a process that decodes images was killed"):
        list(stored_blocks(iter([(block, slots)] * 9), (KILLER, (1, 2, 2), 1), 1))


class Ending:
    """Argument that ends the process that reads it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (9,)


def test_a_decoding_process_that_is_killed_while_it_starts_is_an_error() -> None:
    """Not a hang, and not a traceback."""
    with pytest.raises(GauntletError, match="a process that decodes images was killed"):
        list(stored_blocks(iter([]), (Ending(),), 2))


def test_files_are_readable_by_the_safetensors_library(folder: Path) -> None:
    """The format is a public one."""
    tensors = safetensors.torch.load_file(folder / "test.safetensors")
    split = load_split(folder, "test")
    assert torch.equal(tensors["images"], split.images)
    assert torch.equal(tensors["labels"], split.labels)


def test_only_the_chunks_that_are_read_are_checked(folder: Path) -> None:
    """A damaged chunk is named, in one line, when an image of it is read, and not before."""
    path, images = folder / "train.safetensors", load_split(folder, "train").images
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    stored = open_split(folder, "train")
    last = len(stored) - 1
    assert torch.equal(stored.images[: last - 1], images[: last - 1])
    assert torch.equal(stored.images[[3, 0]], images[[3, 0]])
    for rows in (slice(last, None), [0, last], torch.tensor([last]), slice(None)):
        message = rf"train\.safetensors: images {last - last % 2} to {last} do not match their digest; delete"
        with pytest.raises(InputError, match=message) as caught:
            open_split(folder, "train").images[rows]
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="do not match"):
        load_split(folder, "train")


@pytest.mark.parametrize("position", ["labels", "hashes", "digests"])
def test_damaged_tables_are_found_when_a_split_is_opened(folder: Path, position: str) -> None:
    """Labels, hashes and digests are checked at once."""
    path = folder / "test.safetensors"
    content = bytearray(path.read_bytes())
    count = len(load_split(folder, "test"))
    start = (
        int.from_bytes(content[:8], "little") + 8 + {"labels": 0, "hashes": 8 * count, "digests": 16 * count}[position]
    )
    content[start] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"test\.safetensors: the content does not match its manifest"):
        open_split(folder, "test")


def test_files_of_an_earlier_version_are_refused(folder: Path) -> None:
    """The message names the remedy; `gauntlet status` shows such a data set as stale, since the code changed."""
    split = load_split(folder, "test")
    tensors = {"images": split.images, "labels": split.labels}
    safetensors.torch.save_file(tensors, folder / "test.safetensors", {"gauntlet": "{}"})
    with pytest.raises(InputError, match=r"test\.safetensors: was written by an earlier version; delete the folder"):
        load_split(folder, "test")


@pytest.mark.parametrize("augmented", [False, True])
def test_batches_from_a_file_are_those_from_memory(folder: Path, augmented: bool) -> None:
    """Order, images, labels and augmentation have the same bytes, from any step on."""
    from gauntlet.learning.data.augmentations import build_augmentation

    augmentations = [build_augmentation(Spec("gaussian_noise", {"std": 0.1}))] if augmented else []
    stored = open_split(folder, "train")
    sides = [Batches(split, batch_size=5, seed=3, augmentations=augmentations) for split in (stored, stored.load())]
    for start in (0, 2, sides[0].steps):
        first, second = (list(batches.epoch(1, start=start)) for batches in sides)
        assert len(first) == len(second) == sides[0].steps - start
        for (images, labels), (expected, expected_labels) in zip(first, second, strict=True):
            assert torch.equal(images, expected)
            assert torch.equal(labels, expected_labels)


def test_splits_beyond_the_memory_budget_remain_in_their_files(folder: Path) -> None:
    """Small splits are read first, as long as they fit."""
    splits = [open_split(folder, name) for name in ("train", "validation")]
    validation = splits[1].images.bytes
    for budget, kinds in ((10**6, [Split, Split]), (validation, [StoredSplit, Split]), (0, [StoredSplit, StoredSplit])):
        assert [type(split) for split in resident(splits, CPU, budget=budget)] == kinds


class TestPrefetching:
    """Items that a thread computes ahead."""

    def test_errors_are_raised_where_items_are_used(self) -> None:
        """After the items before."""

        def items() -> Iterator[int]:
            yield 1
            raise InputError("broken")

        received = prefetched(items())
        assert next(received) == 1
        with pytest.raises(InputError, match="broken"):
            next(received)

    def test_the_thread_ends_with_the_generator(self) -> None:
        """Nothing is computed any more."""
        taken: list[int] = []
        generator = prefetched(taken.append(number) or number for number in range(10**9))  # type: ignore[func-returns-value]
        assert next(generator) == 0
        generator.close()  # type: ignore[attr-defined]
        count = len(taken)
        time.sleep(0.05)
        assert count == len(taken) <= 4


class TestWithoutTrainingImages:
    """Sets of test images."""

    @pytest.mark.parametrize("kind", ["imagefolder", "parquet"])
    def test_test_images_alone_are_stored(self, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """The other splits are empty; the statistics are those of the test images."""
        if kind == "imagefolder":
            folder_of(tmp_path / "raw" / "test", {"a": 5, "b": 5})
        else:
            write(table_of([0, 1] * 5), tmp_path / "raw" / "test.parquet")
        data = select(Spec(kind, {"root": str(tmp_path / "raw")}))
        with caplog.at_level(logging.WARNING):
            manifest = store(tmp_path / "stored", data)
        assert manifest.sizes == {"train": 0, "validation": 0, "test": 10}
        images = to_unit(load_split(tmp_path / "stored", "test").images)
        assert manifest.mean == pytest.approx(images.mean((0, 2, 3)).tolist(), abs=1e-6)
        assert (
            len(load_split(tmp_path / "stored", "train")) == len(open_split(tmp_path / "stored", "train").images) == 0
        )

    def test_all_images_may_be_test_images(self, pictures: Spec, caplog: pytest.LogCaptureFixture) -> None:
        """`test: all`, and validation is half of them if asked for."""
        with caplog.at_level(logging.WARNING):
            data = select(pictures, test="all")
            halved = select(pictures, test="all", validation="half_of_test")
        assert "there are no training images: nothing can be trained" in caplog.text
        assert "`test: all` has no effect" not in caplog.text
        assert {name: len(split) for name, split in data.splits.items()} == {"train": 0, "validation": 0, "test": 40}
        assert {name: len(split) for name, split in halved.splits.items()} == {"train": 0, "validation": 20, "test": 20}

    def test_all_has_no_effect_where_there_are_test_images(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The source's own split comes first, and a warning says so."""
        for split in ("train", "test"):
            folder_of(tmp_path / split, {"a": 5, "b": 5})
        with caplog.at_level(logging.WARNING):
            data = select(Spec("imagefolder", {"root": str(tmp_path)}), test="all")
        assert {name: len(split) for name, split in data.splits.items()} == {"train": 8, "validation": 2, "test": 10}
        assert "`test: all` has no effect on a source with test images" in caplog.text


_SCRIPT = """
import sys, time
from pathlib import Path
from gauntlet.core.progress import NullProgress
from gauntlet.learning.data.prepare import select
from gauntlet.learning.data.store import store
from gauntlet.registry import Spec

class Wait(NullProgress):
    def advance(self, *_):
        print("stored some images", flush=True)
        time.sleep(1000)

store(Path(sys.argv[2]), select(Spec("imagefolder", {"root": sys.argv[1]})), report=Wait(), processes=2)
"""


@pytest.mark.slow
def test_a_killed_prepare_leaves_no_split_and_no_process(tmp_path: Path) -> None:
    """A kill in the middle of decoding: the next attempt removes what is left and succeeds."""
    folder_of(tmp_path / "raw", {"a": 200, "b": 200})
    raw, stored = str(tmp_path / "raw"), tmp_path / "stored"
    with subprocess.Popen([sys.executable, "-c", _SCRIPT, raw, stored], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "stored some images\n"
        children = psutil.Process(process.pid).children()
        process.kill()
    _, alive = psutil.wait_procs(children, timeout=200)
    assert children
    assert not alive
    names = [path.name for path in stored.iterdir()]
    assert len(names) == 3
    assert all(name.endswith(".partial") for name in names)
    store(stored, select(Spec("imagefolder", {"root": raw})))
    assert len(list(stored.iterdir())) == 4


@pytest.mark.slow
def test_decoding_processes_do_not_run_the_script_that_started_them(tmp_path: Path) -> None:
    """Each would do everything again, or load what the script loads."""
    folder_of(tmp_path / "raw", {"a": 200, "b": 200})
    script = tmp_path / "script.py"
    script.write_text("print('started', flush=True)\n" + _SCRIPT.replace(", report=Wait()", ""))
    command = [sys.executable, str(script), str(tmp_path / "raw"), str(tmp_path / "stored")]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert (finished.returncode, finished.stdout) == (0, "started\n"), finished.stderr


@pytest.mark.slow
@pytest.mark.parametrize("source", ["imagefolder", "parquet"])
def test_the_benchmark_runs(source: str, tmp_path: Path) -> None:
    """`benchmarks/data.py` measures a small set, whose memory is bounded and whose trainings have the same bytes."""
    sizes = ["--images=300", "--side=16", "--batches=2", "--batch-size=32", "--train"]
    script = str(Path(__file__).parents[3] / "benchmarks" / "data.py")
    command = [sys.executable, script, *sizes, f"--source={source}", f"--folder={tmp_path}"]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = dict(line.split(": ", 1) for line in finished.stdout.splitlines() if ": " in line)
    assert lines.keys() >= {"prepare", "batches from the file", "batches from memory"}
    assert ("DataLoader, 2 workers" in lines) == (source == "imagefolder")
    assert 0 < int(lines["prepare"].split(", ")[1].split()[0]) < 1536
    assert lines["epoch from file"].split(", ")[-1] == lines["epoch from memory"].split(", ")[-1]
    assert lines["digests of weights"] == "1"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_line_and_leaves_no_file(
    pictures: Spec, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of the images; the error names the folder."""
    written = 0
    write_images = os.pwrite

    def fill(*arguments: Any) -> int:
        nonlocal written
        written += 1
        if written > 20:
            raise OSError(number, os.strerror(number))
        return write_images(*arguments)

    monkeypatch.setattr(os, "pwrite", fill)
    with pytest.raises(GauntletError, match=r"stored/.*: the disk is full"):
        store(tmp_path / "stored", select(pictures))
    assert list((tmp_path / "stored").iterdir()) == []
