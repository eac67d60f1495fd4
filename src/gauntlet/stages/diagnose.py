"""Stage `diagnose`: the probes of one model for gradient masking, a row per check and norm."""

from __future__ import annotations

import logging

from gauntlet import paths
from gauntlet.config import Cell
from gauntlet.data.splits import to_unit
from gauntlet.data.store import load_split
from gauntlet.evaluation import CellIdentity
from gauntlet.models.weights import load_model
from gauntlet.planning import Plan
from gauntlet.probes import probe
from gauntlet.provenance.circumstances import Stopwatch
from gauntlet.provenance.recipes import Recipe
from gauntlet.results import write_table
from gauntlet.stages.budgets import in_pixels
from gauntlet.stages.device import describe_device, open_device
from gauntlet.stages.publishing import withdraw

log = logging.getLogger("gauntlet")


def run(plan: Plan, cell: Cell, recipe: Recipe) -> None:
    """Probe one model and publish what was measured; aggregation gives the verdicts."""
    watch = Stopwatch()
    settings = plan.experiment(cell.experiment)
    device = open_device(plan.config.execution)
    split = load_split(paths.data_folder(paths.dataset_id(settings.dataset)), "test")
    rows = probe(
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
    made = {**recipe.metadata(), **watch.circumstances(device=describe_device(device), precision="float32")}
    write_table(paths.probes(cell), rows, made)
    log.info("%s: %d measurements", cell, len(rows))
