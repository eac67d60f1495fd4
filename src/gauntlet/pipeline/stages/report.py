"""Stage `report`: the page that shows an experiment."""

from __future__ import annotations

import logging

from gauntlet.config import Cell
from gauntlet.core.provenance.recipes import Recipe, mark
from gauntlet.learning.data.manifest import load_data_manifest
from gauntlet.pipeline import paths
from gauntlet.pipeline.stages.outputs import withdraw
from gauntlet.pipeline.staleness import Plan
from gauntlet.reporting.figures.results_files import find_inputs
from gauntlet.reporting.page import write_report

log = logging.getLogger("gauntlet")


def run(plan: Plan, cell: Cell, recipe: Recipe) -> None:
    """Write the page of one experiment."""
    name = cell.experiment
    figures = {figure: paths.figure(name, figure, "svg") for figure in plan.figures(name)}
    withdraw(cell)
    left_out = {str(other): "missing or stale, and left out (allow_missing)" for other in plan.left_out(name)}
    evaluated = [other for other in plan.gathered(Cell("aggregate", name)).values() if other.stage == "evaluate"]
    inputs = find_inputs(
        paths.evaluations(name),
        classes=load_data_manifest(paths.data_folder(paths.dataset_id(plan.experiment(name).dataset))).classes,
        current={paths.examples(other) for other in evaluated},
    )
    write_report(paths.report(name), inputs, figures=figures, mark=mark(recipe.string), failures=left_out)
    log.info("%s: %s", cell, paths.report(name))
