"""Stage `figure`: one figure of an experiment, in every format."""

from __future__ import annotations

import logging

from gauntlet.config import Cell
from gauntlet.core.provenance.recipes import Recipe, mark
from gauntlet.learning.data.manifest import load_data_manifest
from gauntlet.pipeline import paths
from gauntlet.pipeline.stages.outputs import withdraw
from gauntlet.pipeline.staleness import Plan
from gauntlet.reporting.aggregation import design_from_config
from gauntlet.reporting.figures.drawing import write_figure
from gauntlet.reporting.figures.results_files import find_inputs

log = logging.getLogger("gauntlet")


def run(plan: Plan, cell: Cell, recipe: Recipe) -> None:
    """Draw one figure of an experiment."""
    settings = plan.experiment(cell.experiment)
    inputs = find_inputs(
        paths.evaluations(cell.experiment),
        plan=design_from_config(cell.experiment, settings),
        classes=load_data_manifest(paths.data_folder(paths.dataset_id(settings.dataset))).classes,
        current=plan.gathered(cell),
    )
    withdraw(cell)
    folder = paths.figure(cell.experiment, cell.name, "pdf").parent
    files = write_figure(cell.name, inputs, folder, mark=mark(recipe.string))
    log.info("%s: %s", cell, ", ".join(str(path) for path in files))
