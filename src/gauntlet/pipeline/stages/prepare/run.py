"""From a data source to a stored data set."""

from __future__ import annotations

import logging

from gauntlet.core.progress import progress
from gauntlet.core.provenance.run_metadata import Stopwatch
from gauntlet.learning.data.prepare import select
from gauntlet.learning.data.raw_files import raw_files_digest, record_raw_files
from gauntlet.learning.data.store import store
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
    data = select(
        dataset.source,
        validation=dataset.validation,
        test=dataset.test,
        limit=dataset.limit.model_dump(),
        seed=dataset.seed,
    )
    with progress(str(cell), len(data), "images", file=paths.progress_file(cell)) as report:
        manifest = store(
            paths.data_folder(cell.name),
            data,
            lambda: {**job.recipe.metadata(), **watch.run_metadata()},
            report=report,
            before_publishing=lambda: withdraw(cell),
        )
    record_raw_files(paths.data_folder(cell.name), raw_files)
    sizes = ", ".join(f"{count} {name}" for name, count in manifest.sizes.items())
    log.info("%s: %s images", cell, sizes)
