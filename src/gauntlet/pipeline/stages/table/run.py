"""From the results of an experiment to the tables of a paper."""

from __future__ import annotations

import logging

from gauntlet.core.files import write_text
from gauntlet.core.parquet import read_table
from gauntlet.core.provenance.recipes import recipe_mark
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import CellJob
from gauntlet.pipeline.stages.outputs import withdraw
from gauntlet.reporting.tables.cells import TableInputs
from gauntlet.reporting.tables.files import render_tables

log = logging.getLogger("gauntlet")


def run(job: CellJob) -> None:
    """Write the tables of one experiment."""
    cell, name = job.cell, job.cell.experiment
    tables = (read_table(path(name)) for path in (paths.summary, paths.comparisons, paths.certified))
    texts = render_tables(TableInputs(paths.evaluations(name), *tables), mark=recipe_mark(job.recipe.digest))
    withdraw(cell)
    # The first file records what made them all, and is written last.
    for path in reversed(cell.outputs):
        write_text(path, texts[path.name])
    log.info("%s: %s", cell, ", ".join(map(str, cell.outputs)))
