"""Stage `prepare`: from a data source to the stored split."""

from __future__ import annotations

import logging

from gauntlet.config import Cell
from gauntlet.core.provenance.recipes import Recipe
from gauntlet.core.provenance.run_metadata import Stopwatch
from gauntlet.learning.data.prepare import prepare
from gauntlet.learning.data.store import write_splits
from gauntlet.pipeline import paths
from gauntlet.pipeline.stages.outputs import withdraw
from gauntlet.pipeline.staleness import Plan

log = logging.getLogger("gauntlet")


def run(plan: Plan, cell: Cell, recipe: Recipe) -> None:
    """Fetch, split and store one data set."""
    watch = Stopwatch()
    dataset = plan.datasets[cell.name]
    prepared = prepare(
        dataset.source,
        validation=dataset.validation,
        test=dataset.test,
        limit=dataset.limit.model_dump(),
        seed=dataset.seed,
    )
    withdraw(cell)
    manifest = write_splits(paths.data_folder(cell.name), prepared, {**recipe.metadata(), **watch.run_metadata()})
    sizes = ", ".join(f"{count} {name}" for name, count in manifest.sizes.items())
    log.info("%s: %s images", cell, sizes)
