"""Stage `diagnose`: the probes of one model for gradient masking, a row per check and norm."""

from __future__ import annotations

import logging

from gauntlet.config import Cell
from gauntlet.core.parquet import write_table
from gauntlet.core.provenance.recipes import Recipe
from gauntlet.core.provenance.run_metadata import Stopwatch
from gauntlet.learning.data.splits import to_unit
from gauntlet.learning.data.store import load_split
from gauntlet.learning.models.weights import load_model
from gauntlet.pipeline import paths
from gauntlet.pipeline.stages.budgets import in_pixels
from gauntlet.pipeline.stages.device import describe_device, open_device
from gauntlet.pipeline.stages.outputs import withdraw
from gauntlet.pipeline.staleness import Plan
from gauntlet.robustness.diagnostics.probes import run_probes
from gauntlet.robustness.evaluation import CellIdentity

log = logging.getLogger("gauntlet")


def run(plan: Plan, cell: Cell, recipe: Recipe) -> None:
    """Probe one model and publish what was measured; aggregation gives the verdicts."""
    watch = Stopwatch()
    settings = plan.experiment(cell.experiment)
    device = open_device(plan.config.execution)
    split = load_split(paths.data_folder(paths.dataset_id(settings.dataset)), "test")
    rows = run_probes(
        load_model(paths.model_folder(cell.model), device=device),
        to_unit(split.images[: settings.samples]),
        split.labels[: settings.samples],
        epsilons=in_pixels(settings).budgets(),
        samples=settings.diagnostics.samples,
        steps=settings.diagnostics.steps,
        identity=CellIdentity(cell.experiment, cell.variant, cell.seed),
        device=device,
    )
    withdraw(cell)
    made = {**recipe.metadata(), **watch.run_metadata(device=describe_device(device), precision="float32")}
    write_table(paths.probes(cell), rows, made)
    log.info("%s: %d measurements", cell, len(rows))
