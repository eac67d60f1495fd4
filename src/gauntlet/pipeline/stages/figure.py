"""Stage `figure`: one figure of an experiment, in every format."""

from __future__ import annotations

import logging

from gauntlet.config import Cell
from gauntlet.core.provenance.recipes import Recipe, mark
from gauntlet.pipeline import paths
from gauntlet.pipeline.stages.figure_inputs import figure_inputs
from gauntlet.pipeline.stages.outputs import withdraw
from gauntlet.pipeline.staleness import Plan
from gauntlet.reporting.figures import render

log = logging.getLogger("gauntlet")


def run(plan: Plan, cell: Cell, recipe: Recipe) -> None:
    """Draw one figure of an experiment."""
    withdraw(cell)
    folder = paths.figure(cell.experiment, cell.name, "pdf").parent
    files = render(cell.name, figure_inputs(plan, cell.experiment), folder, mark=mark(recipe.string))
    log.info("%s: %s", cell, ", ".join(str(path) for path in files))
