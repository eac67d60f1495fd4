"""How long a cell will probably take, as a trial of a few samples told, on disk beside the cell's log."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from gauntlet.config.grid import Cell
from gauntlet.core.files import write_json
from gauntlet.pipeline import paths


@dataclass(frozen=True)
class Prediction:
    """A predicted duration and what it rests on.

    `recipe` is the string of what would be made; `seconds` the time that the making would record, from reading the
    model to the last sample; `start_seconds` what the process takes before that. `tried` of the `samples` were run, on
    `device`, which names the threads on a CPU.
    """

    recipe: str
    seconds: float
    start_seconds: float
    samples: int
    tried: int
    device: str
    threads: int

    def write(self, cell: Cell) -> Path:
        """Write the prediction of a cell, atomically."""
        path = paths.prediction(cell)
        write_json(path, asdict(self))
        return path


def predicted(cell: Cell, recipe: str | None) -> float | None:
    """Say how many seconds a cell was predicted to take; None if not, or if something else was predicted then."""
    try:
        found = Prediction(**json.loads(paths.prediction(cell).read_text(encoding="utf-8")))
        return float(found.seconds) if recipe is not None and found.recipe == recipe else None
    except (OSError, ValueError, TypeError):
        return None
