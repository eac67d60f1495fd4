"""From the effects of factors to their tables."""

from __future__ import annotations

import logging

from gauntlet.core.files import write_text
from gauntlet.core.parquet import read_table
from gauntlet.core.provenance.recipes import recipe_mark
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import CellJob
from gauntlet.pipeline.stages.outputs import withdraw
from gauntlet.reporting.aggregation import design_from_config
from gauntlet.reporting.tables.effect_files import render_effects

log = logging.getLogger("gauntlet")


def run(job: CellJob) -> None:
    """Write the tables of effects of one experiment."""
    cell, name = job.cell, job.cell.experiment
    design = design_from_config(name, job.experiment)
    texts = render_effects(read_table(paths.effects(name)), design, mark=recipe_mark(job.recipe.digest))
    withdraw(cell)
    # The first file records what made them all, and is written last.
    for path in reversed(cell.outputs):
        write_text(path, texts[path.name])
    log.info("%s: %s", cell, ", ".join(map(str, cell.outputs)))
