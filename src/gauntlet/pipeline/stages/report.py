"""Stage `report`: the page that shows an experiment."""

from __future__ import annotations

import logging

from gauntlet.config import Cell
from gauntlet.core.provenance.recipes import Recipe, mark
from gauntlet.pipeline import paths
from gauntlet.pipeline.stages.figure_inputs import figure_inputs
from gauntlet.pipeline.stages.outputs import withdraw
from gauntlet.pipeline.staleness import Plan
from gauntlet.reporting.page import write_report

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
