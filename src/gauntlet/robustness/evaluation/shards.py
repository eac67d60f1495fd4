"""Division of an evaluation's samples into shards, one job each, and parts, each saved when it is finished."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gauntlet.core.errors import InputError

SampleRange = tuple[int, int]
"""The samples [start, stop)."""

BATCH_SIZES = {"cpu": 256, "cuda": 1024}
"""Default batch size by device type. A part has as many samples, so that division into parts costs no speed."""


_PIXELS_PER_PASS = 1 << 17
"""Pixels of the images of one pass on a CPU. The features of more of them, in float32, exceed 32 MB in the first layers
of many networks; the allocator returns such blocks to the system after each use, which made passes 1.3 times slower."""
_LEAST_PER_PASS = 16


def default_batch_size(device_type: str) -> int:
    """Return the default batch size on a type of device, which is also the size of a part."""
    return BATCH_SIZES.get(device_type, BATCH_SIZES["cpu"])


def default_pass_size(device_type: str, image: Sequence[int]) -> int:
    """Return how many images of shape (C, H, W) go through a network at once, at most the default batch size."""
    size = default_batch_size(device_type)
    if device_type != "cpu":
        return size
    fitting = max(_LEAST_PER_PASS, _PIXELS_PER_PASS // max(1, math.prod(image[-2:])))
    return min(size, 1 << (fitting.bit_length() - 1))


@dataclass(frozen=True)
class Shard:
    """One of `count` shares of an evaluation's samples; `number` counts from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parse a shard such as `2/8`. Raises InputError."""
        number, _, count = text.partition("/")
        if number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
            return cls(int(number), int(count))
        raise InputError(f"'{text}' is not a shard", where="--shard", remedy="write I/N, such as 2/8")

    def range_of(self, samples: int) -> SampleRange:
        """Return this shard's range of `samples` samples; empty where there are more shards than samples."""
        return (self.number - 1) * samples // self.count, self.number * samples // self.count


def part_ranges(samples: int, *, part_size: int, shards: int = 1, shard: Shard | None = None) -> list[SampleRange]:
    """Return the ranges of the parts of one shard, or of all `shards`: the same parts either way."""
    chosen = [shard] if shard else [Shard(number, shards) for number in range(1, shards + 1)]
    return [
        (first, min(first + part_size, stop))
        for start, stop in (each.range_of(samples) for each in chosen)
        for first in range(start, stop, part_size)
    ]


def remaining(ranges: Iterable[SampleRange], finished: Sequence[SampleRange]) -> list[SampleRange]:
    """Return `ranges` without the samples of `finished`, which are ascending, disjoint and may be of other sizes."""
    left: list[SampleRange] = []
    for start, stop in ranges:
        for done_start, done_stop in finished:
            if done_stop <= start or done_start >= stop:
                continue
            if done_start > start:
                left.append((start, done_start))
            start = done_stop
        if start < stop:
            left.append((start, stop))
    return left
