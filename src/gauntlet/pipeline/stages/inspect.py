"""Stage `inspect`: what the parts of one model compute, as small arrays for figures."""

from __future__ import annotations

import logging

from gauntlet.config import Cell
from gauntlet.core.parquet import write_table
from gauntlet.core.provenance.recipes import Recipe
from gauntlet.core.provenance.run_metadata import Stopwatch
from gauntlet.learning.data.store import load_split
from gauntlet.learning.models.weights import load_model
from gauntlet.pipeline import paths
from gauntlet.pipeline.stages.device import describe_device, open_device
from gauntlet.pipeline.stages.outputs import withdraw
from gauntlet.pipeline.staleness import Plan
from gauntlet.robustness.inspection.arrays import array_table
from gauntlet.robustness.inspection.inspector import inspect_network
from gauntlet.robustness.inspection.training_negatives import training_negatives

log = logging.getLogger("gauntlet")


def run(plan: Plan, cell: Cell, recipe: Recipe) -> None:
    """Inspect one model, and make again the first negatives that it was trained on, if any; publish the table."""
    watch = Stopwatch()
    settings = plan.experiment(cell.experiment)
    device = open_device(plan.config.execution)
    folder = paths.data_folder(paths.dataset_id(settings.dataset))
    network = load_model(paths.model_folder(cell.model), device=device)
    arrays = inspect_network(network, load_split(folder, "test"), device=device)
    training = settings.training_of(cell.variant)
    if training.negatives is not None:
        arrays += training_negatives(
            training.negatives,
            load_split(folder, "train"),
            augmentation=training.augmentation,
            batch_size=training.batch_size,
            seed=cell.seed,
            device=device,
        )
    withdraw(cell)
    made = {**recipe.metadata(), **watch.run_metadata(device=describe_device(device), precision="float32")}
    table = array_table(arrays, experiment=cell.experiment, variant=cell.variant, seed=cell.seed)
    write_table(paths.inspection(cell), table, made)
    log.info("%s: %d arrays", cell, len(table))
