"""Metadata of result files and the recorded durations of cells, read without torch and without the files' content."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from gauntlet.core.errors import GauntletError
from gauntlet.core.parquet import read_metadata
from gauntlet.core.provenance.recipes import SECONDS_KEY
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import Cell

_MAX_HEADER_BYTES = 1 << 24


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


def _benchmark_seconds(path: Path) -> float | None:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return float(next(csv.DictReader(stream, delimiter="\t"))["s"])
    except (OSError, ValueError, KeyError, StopIteration, TypeError):
        return None
