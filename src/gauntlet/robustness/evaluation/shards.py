"""How the samples of an evaluation are divided: into shards, each a job, and these into parts, each kept when done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gauntlet.core.errors import InputError

Piece = tuple[int, int]
"""The samples [start, stop)."""

PART_SIZES = {"cpu": 256, "cuda": 1024}
"""Samples of a part at most, by the device: a batch, so that parts cost no speed."""


@dataclass(frozen=True)
class Shard:
    """One of `count` shares of an evaluation's samples; `number` counts from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `2/8`. Raises InputError."""
        number, _, count = text.partition("/")
        if number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
            return cls(int(number), int(count))
        raise InputError(f"'{text}' is no shard", where="--shard", remedy="write I/N, such as 2/8")

    def of(self, samples: int) -> Piece:
        """Give this shard's samples out of so many; none where there are more shards than samples."""
        return (self.number - 1) * samples // self.count, self.number * samples // self.count


def pieces(samples: int, *, part_size: int, shards: int = 1, shard: Shard | None = None) -> list[Piece]:
    """Divide samples into parts: those of one shard, or of all `shards`, which are the same parts."""
    chosen = [shard] if shard else [Shard(number, shards) for number in range(1, shards + 1)]
    return [
        (first, min(first + part_size, stop))
        for start, stop in (one.of(samples) for one in chosen)
        for first in range(start, stop, part_size)
    ]


def remaining(wanted: Iterable[Piece], finished: Sequence[Piece]) -> list[Piece]:
    """Cut out of the wanted pieces what finished ones, disjoint and in order, cover, whatever their grid."""
    left: list[Piece] = []
    for start, stop in wanted:
        for done_start, done_stop in finished:
            if done_stop <= start or done_start >= stop:
                continue
            if done_start > start:
                left.append((start, done_start))
            start = done_stop
        if start < stop:
            left.append((start, stop))
    return left
