"""From a data source to a stored data set."""

from __future__ import annotations

import logging

from gauntlet.core.provenance.run_metadata import Stopwatch
from gauntlet.learning.data.prepare import prepare
from gauntlet.learning.data.raw_files import raw_files_digest, record_raw_files
from gauntlet.learning.data.store import write_splits
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import CellJob
from gauntlet.pipeline.stages.outputs import withdraw
from gauntlet.pipeline.stages.prepare.declaration import raw_folder

log = logging.getLogger("gauntlet")


def run(job: CellJob) -> None:
    """Fetch, split and store one data set."""
    watch = Stopwatch()
    cell, dataset = job.cell, job.experiment.dataset
    folder = raw_folder(job.scope)
    raw_files = raw_files_digest(folder) if folder else None
    prepared = prepare(
        dataset.source,
        validation=dataset.validation,
        test=dataset.test,
        limit=dataset.limit.model_dump(),
        seed=dataset.seed,
    )
    withdraw(cell)
    manifest = write_splits(paths.data_folder(cell.name), prepared, {**job.recipe.metadata(), **watch.run_metadata()})
    record_raw_files(paths.data_folder(cell.name), raw_files)
    sizes = ", ".join(f"{count} {name}" for name, count in manifest.sizes.items())
    log.info("%s: %s images", cell, sizes)
