"""Stage `figure`: one figure of an experiment, in every format."""

from __future__ import annotations

import logging

from gauntlet import paths
from gauntlet.config import Cell
from gauntlet.figures import render
from gauntlet.planning import Plan
from gauntlet.provenance.recipes import Recipe, mark
from gauntlet.stages.inputs import figure_inputs
from gauntlet.stages.publishing import withdraw

log = logging.getLogger("gauntlet")


def run(plan: Plan, cell: Cell, recipe: Recipe) -> None:
    """Draw one figure of an experiment."""
    withdraw(cell)
    folder = paths.figure(cell.experiment, cell.probe, "pdf").parent
    files = render(cell.probe, figure_inputs(plan, cell.experiment), folder, mark=mark(recipe.string))
    log.info("%s: %s", cell, ", ".join(str(path) for path in files))
