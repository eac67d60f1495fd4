"""From a trained network to measurements of its probes, a row per check and norm."""

from __future__ import annotations

import logging

from gauntlet.core.errors import located
from gauntlet.core.parquet import write_table
from gauntlet.core.provenance.run_metadata import Stopwatch
from gauntlet.learning.data.stored_images import UnitImages, open_split
from gauntlet.learning.models.weights import load_model
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import CellJob
from gauntlet.pipeline.stages.budgets import in_pixels
from gauntlet.pipeline.stages.device import describe_device, device_metadata, open_device
from gauntlet.pipeline.stages.diagnose.declaration import probe_draws
from gauntlet.pipeline.stages.outputs import withdraw
from gauntlet.robustness.diagnostics.probes import run_probes
from gauntlet.robustness.evaluation import CellIdentity

log = logging.getLogger("gauntlet")


def run(job: CellJob) -> None:
    """Probe one model and publish the measurements; aggregation adds the verdicts."""
    watch = Stopwatch()
    cell, settings = job.cell, job.experiment
    device = open_device(job.execution)
    split = open_split(paths.data_folder(paths.dataset_id(settings.dataset)), "test")
    with located(str(cell)):
        rows = run_probes(
            load_model(paths.model_folder(cell), device=device),
            UnitImages(split, settings.samples),
            split.labels[: settings.samples],
            epsilons=in_pixels(settings).budgets(),
            samples=settings.diagnostics.samples,
            steps=settings.diagnostics.steps,
            draws=probe_draws(settings),
            identity=CellIdentity(cell.experiment, cell.variant, cell.seed),
            device=device,
        )
    withdraw(cell)
    made = {
        **job.recipe.metadata(),
        **watch.run_metadata(**device_metadata(job.execution, describe_device(device), precision="float32")),
    }
    write_table(paths.probes(cell), rows, made)
    log.info("%s: %d measurements", cell, len(rows))
