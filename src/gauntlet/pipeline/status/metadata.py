"""Metadata of result files and the recorded durations of cells, read without torch and without the files' content."""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from gauntlet.core.errors import GauntletError
from gauntlet.core.files import modified_s
from gauntlet.core.parquet import read_metadata
from gauntlet.core.provenance.recipes import SECONDS_KEY
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import Cell

_MAX_HEADER_BYTES = 1 << 24

_SHARD = re.compile(r"(?P<cell>.+)\.\d+-of-(?P<shards>\d+)")


def file_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a parquet or safetensors file; empty if it has none or cannot be read."""
    try:
        if path.suffix == ".parquet":
            return read_metadata(path)
        if path.suffix == ".safetensors":
            return _safetensors_metadata(path)
    except (OSError, ValueError, KeyError, TypeError, GauntletError):
        return {}
    return {}


def _safetensors_metadata(path: Path) -> dict[str, str]:
    """Read the header: its length in eight little-endian bytes, then JSON."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > _MAX_HEADER_BYTES:
            return {}
        header = json.loads(stream.read(length))
    return dict(json.loads(header["__metadata__"]["gauntlet"]))


def recorded_seconds(cell: Cell) -> float | None:
    """Return how long a cell took when it last ran, from its file or else Snakemake's benchmark; None if unknown."""
    try:
        return float(file_metadata(cell.outputs[0])[SECONDS_KEY])
    except (KeyError, ValueError):
        return _benchmark_seconds(paths.log(cell).with_suffix(".tsv"))


def shard_benchmarks(folder: Path) -> dict[str, list[Path]]:
    """Map the names of split cells' logs to Snakemake's benchmarks of their shards, all those of the last division.

    Divisions of which a shard is missing are left out.
    """
    divisions: dict[tuple[str, int], list[Path]] = defaultdict(list)
    for file in folder.glob("*-of-*.tsv"):
        if found := _SHARD.fullmatch(file.stem):
            divisions[found["cell"], int(found["shards"])].append(file)
    whole = [(cell, files) for (cell, shards), files in divisions.items() if len(files) == shards]
    return dict(sorted(whole, key=lambda division: max(map(modified_s, division[1]))))


def total_seconds(benchmarks: Iterable[Path]) -> float | None:
    """Return the sum of durations in Snakemake's benchmarks; None without any, or if one cannot be read."""
    seconds = [_benchmark_seconds(file) for file in benchmarks]
    known = [duration for duration in seconds if duration is not None]
    return sum(known) if known and len(known) == len(seconds) else None


def _benchmark_seconds(path: Path) -> float | None:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return float(next(csv.DictReader(stream, delimiter="\t"))["s"])
    except (OSError, ValueError, KeyError, StopIteration, TypeError):
        return None
