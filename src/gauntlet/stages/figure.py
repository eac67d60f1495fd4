"""Stage `figure`: one figure of an experiment, in every format."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import replace
from pathlib import Path

from gauntlet import paths
from gauntlet.aggregation import summarise
from gauntlet.config import Cell
from gauntlet.diagnostics.checks import flags_of
from gauntlet.figures import available, inputs_beside, render
from gauntlet.figures.style import style_of
from gauntlet.planning import Plan
from gauntlet.provenance.recipes import Recipe, mark
from gauntlet.results import read_table, write_table
from gauntlet.stages.inputs import figure_inputs
from gauntlet.stages.publishing import withdraw

log = logging.getLogger("gauntlet")


def run(plan: Plan, cell: Cell, recipe: Recipe) -> None:
    """Draw one figure of an experiment."""
    withdraw(cell)
    folder = paths.figure(cell.experiment, cell.probe, "pdf").parent
    files = render(cell.probe, figure_inputs(plan, cell.experiment), folder, mark=mark(recipe.string))
    log.info("%s: %s", cell, ", ".join(str(path) for path in files))


def draw_from_results(evaluations: Path, folder: Path, name: str | None, style: str = "paper") -> list[Path]:
    """Draw from one evaluations.parquet, with no model, data or configuration; returns the files.

    Draws the figure `name`, or all for which this file and what lies beside it suffice. Raises InputError for a style
    that there is not.
    """
    look = style_of(style)
    with tempfile.TemporaryDirectory() as scratch:
        summary = Path(scratch) / "summary.parquet"
        beside = inputs_beside(evaluations)
        flags = flags_of(read_table(beside.path("diagnostics"))) if beside.has("diagnostics") else None
        write_table(summary, summarise(evaluations, flags=flags), {})
        inputs = replace(beside, summary=summary)
        names = [name] if name else available(inputs)
        return [path for figure in names for path in render(figure, inputs, folder, style=look)]
