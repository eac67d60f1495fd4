"""What files and logs tell of how a cell was made, read without torch and without reading the content."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

from gauntlet.config.grid import Cell
from gauntlet.core.errors import GauntletError
from gauntlet.core.parquet import read_metadata
from gauntlet.core.provenance.recipes import SECONDS_KEY
from gauntlet.pipeline import paths

_FAILURE = re.compile(r"gauntlet: |[\w.]+(Error|Exception)\b")
_LONGEST_HEADER_BYTES = 1 << 24
_TAIL_BYTES = 1 << 12


def metadata(path: Path) -> dict[str, str]:
    """Read what made a parquet or safetensors file; nothing where it says nothing or cannot be read."""
    try:
        if path.suffix == ".parquet":
            return read_metadata(path)
        if path.suffix == ".safetensors":
            return _safetensors_metadata(path)
    except (OSError, ValueError, KeyError, TypeError, GauntletError):
        return {}
    return {}


def _safetensors_metadata(path: Path) -> dict[str, str]:
    """Read the header: eight bytes of length, little-endian, then JSON."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > _LONGEST_HEADER_BYTES:
            return {}
        header = json.loads(stream.read(length))
    return dict(json.loads(header["__metadata__"]["gauntlet"]))


def seconds(cell: Cell, made: dict[str, str] | None = None) -> float | None:
    """Say how long a cell took when it was made last; None where nothing recorded it.

    The file's own record comes first, then what Snakemake measured.
    """
    made = metadata(paths.products(cell)[0]) if made is None else made
    try:
        return float(made[SECONDS_KEY])
    except (KeyError, ValueError):
        return _benchmarked(paths.log(cell).with_suffix(".tsv"))


def _benchmarked(path: Path) -> float | None:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return float(next(csv.DictReader(stream, delimiter="\t"))["s"])
    except (OSError, ValueError, KeyError, StopIteration, TypeError):
        return None


def failure(line: str) -> bool:
    """Tell whether a log's last line is that of a failed command: a message of ours, or the end of a traceback."""
    return _FAILURE.match(line) is not None


def last_line(path: Path) -> str:
    """Read the last line of a log that says anything; empty where there is none."""
    return next(reversed(last_lines(path)), "")


def last_lines(path: Path) -> list[str]:
    """Read the lines at the end of a log that say anything; none where there is no log."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - _TAIL_BYTES))
            lines = stream.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return []
    # A bar redraws its line with carriage returns: only what it showed last was left standing.
    shown = (line.rstrip("\r").rpartition("\r")[2].strip() for line in lines)
    return [line for line in shown if line]
