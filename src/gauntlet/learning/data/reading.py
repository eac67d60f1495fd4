"""Reading of the images of a data set from its source, into memory or into the files of its splits."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gauntlet.core.progress import Progress
from gauntlet.learning.data.blocks import Block, ColorFound, FileSink, Sink, Slots
from gauntlet.learning.data.decoding_processes import available_processes, stored_blocks
from gauntlet.learning.data.encoded import EncodedSplit
from gauntlet.learning.data.selection import SelectedData
from gauntlet.learning.data.split_file import HASH_BYTES

log = logging.getLogger("gauntlet")

_LEAST_IMAGES = 4000
"""Number of images from which decoding processes are worth their start."""

Table = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class ReadRecord:
    """Shape (C, H, W) of the images of a data set, and the fields of `BlockRecord` by split."""

    shape: tuple[int, int, int]
    hashes: Mapping[str, Table]
    levels: Mapping[str, Table]


def read_images(
    data: SelectedData,
    open_sink: Callable[[tuple[int, int, int]], Sink],
    report: Progress,
    *,
    processes: int | None = None,
) -> ReadRecord:
    """Decode all images of a data set's source, and write those of its splits to a sink for images of a shape.

    With a FileSink, `processes` decode (by default as many as there are CPUs, at most 4; 0: this one). If a color image
    is found among gray ones, everything is read again in color, with a new sink. Raises InputError that names the first
    image, in the order of the source, that cannot be used.
    """
    shape = data.image_shape()
    try:
        return _read(data, shape, open_sink(shape), report, processes)
    except ColorFound:
        log.info("%s: an image has color, so all images are read in color", data.where)
        color = (3, *shape[1:])
        return _read(data, color, open_sink(color), report, processes)


def _read(
    data: SelectedData, shape: tuple[int, int, int], sink: Sink, report: Progress, processes: int | None
) -> ReadRecord:
    names = tuple(data.splits)
    hashes = {name: np.zeros((len(split), HASH_BYTES), np.uint8) for name, split in data.splits.items()}
    levels = np.zeros((len(names), shape[0], 256), np.int64)
    done = 0
    try:
        for source in data.sources:
            encoded = source if isinstance(source, EncodedSplit) else None
            slots, orientations, start = data.slots(source), Counter[int](), 0
            several = available_processes() if processes is None and len(source) >= _LEAST_IMAGES else processes or 0
            if encoded is None or not encoded.parallel or not isinstance(sink, FileSink):
                several = 0
            for record in stored_blocks(_slotted(data.blocks(source), slots), (sink, shape, len(names)), several):
                stored = slots[start : (start := start + len(record.hashes))]
                for number, name in enumerate(names):
                    chosen = stored[:, 0] == number
                    hashes[name][stored[chosen, 1]] = record.hashes[chosen]
                levels += record.levels
                orientations += record.orientations
                done += len(stored)
                report.advance(len(stored))
            if encoded is not None:
                encoded.report_orientations(orientations)
    except ColorFound:
        report.advance(-done)
        raise
    finally:
        if isinstance(sink, FileSink):
            sink.close()
    return ReadRecord(shape, hashes, {name: levels[number] for number, name in enumerate(names)})


def _slotted(blocks: Iterator[Block], slots: Slots) -> Iterator[tuple[Block, Slots]]:
    start = 0
    for block in blocks:
        yield block, slots[start : (start := start + len(block.images))]
