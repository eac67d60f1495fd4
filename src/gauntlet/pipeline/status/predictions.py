"""Predicted durations of cells, measured on a few samples by `gauntlet predict` and stored next to the cells' logs."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from gauntlet.core.files import write_json
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import Cell


class Prediction(BaseModel):
    """A predicted duration and the trial behind it.

    `recipe` is the recipe string of the cell that was tried; `seconds` is the time that running it will record, from
    loading the model to the last sample, and `start_seconds` what the process takes before. `tried` of the `samples`
    were run, on `device`, which includes the number of threads on a CPU.
    """

    model_config = ConfigDict(frozen=True)

    recipe: str
    seconds: float
    start_seconds: float
    samples: int
    tried: int
    device: str
    threads: int

    def write(self, cell: Cell) -> Path:
        """Write the prediction of a cell atomically and return its path."""
        path = paths.prediction(cell)
        write_json(path, self.model_dump())
        return path


def predicted_seconds(cell: Cell, recipe: str | None) -> float | None:
    """Return the predicted duration of a cell; None without a prediction for this recipe."""
    try:
        prediction = Prediction.model_validate_json(paths.prediction(cell).read_bytes())
    except (OSError, ValueError):
        return None
    return prediction.seconds if recipe is not None and prediction.recipe == recipe else None
