"""Stage `report`: the page that shows an experiment."""

from __future__ import annotations

import logging

from gauntlet import paths
from gauntlet.config import Cell
from gauntlet.planning import Plan
from gauntlet.provenance.recipes import Recipe, mark
from gauntlet.report import write_report
from gauntlet.stages.inputs import figure_inputs
from gauntlet.stages.publishing import withdraw

log = logging.getLogger("gauntlet")


def run(plan: Plan, cell: Cell, recipe: Recipe) -> None:
    """Write the page of one experiment."""
    name = cell.experiment
    figures = {figure: paths.figure(name, figure, "svg") for figure in plan.figures(name)}
    withdraw(cell)
    left_out = {str(other): "missing or stale, and left out (allow_missing)" for other in plan.left_out(name)}
    write_report(
        paths.report(name), figure_inputs(plan, name), figures=figures, mark=mark(recipe.string), failures=left_out
    )
    log.info("%s: %s", cell, paths.report(name))
