"""From the results of an experiment to one figure, in every format."""

from __future__ import annotations

import logging
from dataclasses import replace

from gauntlet.core.provenance.recipes import recipe_mark
from gauntlet.learning.data.manifest import load_data_manifest
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import CellJob
from gauntlet.pipeline.stages.outputs import withdraw
from gauntlet.reporting.aggregation import design_from_config
from gauntlet.reporting.figures.drawing import write_figure
from gauntlet.reporting.figures.results_files import find_inputs

log = logging.getLogger("gauntlet")


def run(job: CellJob) -> None:
    """Draw one figure of an experiment."""
    cell, settings = job.cell, job.experiment
    inputs = find_inputs(
        paths.evaluations(cell.experiment),
        design=design_from_config(cell.experiment, settings),
        classes=load_data_manifest(paths.data_folder(paths.dataset_id(settings.dataset))).classes,
        current=job.inputs,
    )
    inputs = replace(inputs, shown=settings.shown()[0], facet_by=settings.facets or ())
    withdraw(cell)
    files = write_figure(cell.name, inputs, cell.outputs[0].parent, mark=recipe_mark(job.recipe.digest))
    log.info("%s: %s", cell, ", ".join(map(str, files)))
