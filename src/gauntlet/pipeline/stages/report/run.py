"""From the results and figures of an experiment to its page."""

from __future__ import annotations

import logging
from dataclasses import replace

from gauntlet.core.provenance.recipes import recipe_mark
from gauntlet.learning.data.manifest import load_data_manifest
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import CellJob
from gauntlet.pipeline.stages.evaluate.declaration import evaluations
from gauntlet.pipeline.stages.outputs import withdraw
from gauntlet.pipeline.stages.train.model_warnings import model_warnings
from gauntlet.reporting.figures.results_files import find_inputs
from gauntlet.reporting.page import write_report

log = logging.getLogger("gauntlet")


def run(job: CellJob) -> None:
    """Write the page of one experiment."""
    cell, page = job.cell, paths.report(job.cell.experiment)
    figures = {maker.name: path for path, maker in job.inputs.items() if path.suffix == ".svg"}
    data = load_data_manifest(paths.data_folder(paths.dataset_id(job.experiment.dataset)))
    inputs = find_inputs(
        paths.evaluations(cell.experiment),
        classes=data.classes,
        current={paths.examples(other) for other in evaluations(job.scope) if other not in job.left_out},
    )
    if job.experiment.published is None:
        # A table of an earlier configuration may be there.
        inputs = replace(inputs, published=None)
    withdraw(cell)
    left_out = [str(other) for other in job.left_out]
    mark = recipe_mark(job.recipe.digest)
    notes = [*data.duplicate_notes, *model_warnings(job.scope)]
    write_report(page, inputs, figures=figures, mark=mark, left_out=left_out, notes=notes)
    log.info("%s: %s", cell, page)
