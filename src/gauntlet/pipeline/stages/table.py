"""Stage `table`: the tables of a paper, from the results of one experiment."""

from __future__ import annotations

import logging

from gauntlet.config import Cell
from gauntlet.core.files import write_text
from gauntlet.core.parquet import read_table
from gauntlet.core.provenance.recipes import Recipe, mark
from gauntlet.pipeline import paths
from gauntlet.pipeline.stages.outputs import withdraw
from gauntlet.pipeline.staleness import Plan
from gauntlet.reporting.tables import TableInputs, render_tables

log = logging.getLogger("gauntlet")


def run(_plan: Plan, cell: Cell, recipe: Recipe) -> None:
    """Write the tables of one experiment."""
    name = cell.experiment
    made = (read_table(path(name)) for path in (paths.summary, paths.comparisons, paths.certified))
    texts = render_tables(TableInputs(paths.evaluations(name), *made), mark=mark(recipe.string))
    withdraw(cell)
    # The first file says what made them all, and is written last.
    for file in reversed(paths.products(cell)):
        write_text(file, texts[file.name])
    log.info("%s: %s", cell, ", ".join(map(str, paths.products(cell))))
