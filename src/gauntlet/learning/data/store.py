"""Writing of a data set: one file per split, and a manifest with the digests that are checked on reading."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from gauntlet.core.files import atomic_path, remove_leftovers, write_json
from gauntlet.core.progress import NullProgress, Progress
from gauntlet.learning.data.blocks import FileSink
from gauntlet.learning.data.manifest import (
    FORMAT,
    DataManifest,
    load_data_manifest,
    manifest_digest,
)
from gauntlet.learning.data.reading import read_images
from gauntlet.learning.data.selection import SelectedData
from gauntlet.learning.data.split_file import SplitFile
from gauntlet.learning.data.statistics import channel_statistics, find_duplicates


def store(
    folder: Path,
    data: SelectedData,
    metadata: Callable[[], Mapping[str, str]] = dict,
    *,
    report: Progress | None = None,
    before_publishing: Callable[[], None] = lambda: None,
    processes: int | None = None,
) -> DataManifest:
    """Read the images of a data set, write its splits and, last, their manifest.

    The images are never in memory at once. `before_publishing` is called when all splits are written under temporary
    names; then they are renamed. `metadata` is written to the files of the splits only: the manifest contains neither
    time nor host. A warning states how many images occur in two splits. Raises as `read_images` does.
    """
    with ExitStack() as stack:
        drafts = {}
        for name in data.splits:
            path = folder / f"{name}.safetensors"
            remove_leftovers(path)
            drafts[name] = stack.enter_context(atomic_path(path))
        files: dict[str, SplitFile] = {}

        def open_sink(shape: tuple[int, int, int]) -> FileSink:
            for name, split in data.splits.items():
                files[name] = SplitFile.create(drafts[name], len(split), shape, metadata())
            return FileSink([(file.path, file.images_start) for file in files.values()])

        read = read_images(data, open_sink, report or NullProgress(), processes=processes)
        splits: dict[str, dict[str, Any]] = {}
        for name, split in data.splits.items():
            digest = files[name].finish(split.labels.numpy(), read.hashes[name], metadata())
            splits[name] = {"n": len(split), "digest": digest}
        duplicates = find_duplicates(read.hashes, data.where)
        before_publishing()
    mean, std = channel_statistics(read.levels[data.described])
    content = {
        "format": FORMAT,
        "splits": splits,
        "image_shape": list(read.shape),
        "num_classes": len(data.classes),
        "classes": list(data.classes),
        "mean": list(mean),
        "std": list(std),
    }
    if duplicates:
        content["duplicates"] = duplicates
    write_json(folder / "manifest.json", {**content, "digest": manifest_digest(content)})
    return load_data_manifest(folder)
