"""Stage `inspect`: what the parts of one model compute, as small arrays for figures."""

from __future__ import annotations

import logging

from gauntlet import paths
from gauntlet.config import Cell
from gauntlet.data.store import load_split
from gauntlet.exhibits import exhibit_table
from gauntlet.inspection import inspect, training_negatives
from gauntlet.models.weights import load_model
from gauntlet.planning import Plan
from gauntlet.provenance.circumstances import Stopwatch
from gauntlet.provenance.recipes import Recipe
from gauntlet.results import write_table
from gauntlet.stages.device import describe_device, open_device
from gauntlet.stages.publishing import withdraw

log = logging.getLogger("gauntlet")


def run(plan: Plan, cell: Cell, recipe: Recipe) -> None:
    """Inspect one model, and make again the first negatives that it was trained on, if any; publish the table."""
    watch = Stopwatch()
    settings = plan.experiment(cell.experiment)
    device = open_device(plan.config.execution)
    folder = paths.data_folder(paths.dataset_id(settings.dataset))
    network = load_model(paths.model_folder(cell.model), device=device)
    exhibits = inspect(network, load_split(folder, "test"), device=device)
    training = settings.training_of(cell.variant)
    if training.negatives is not None:
        exhibits += training_negatives(
            training.negatives,
            load_split(folder, "train"),
            augmentation=training.augmentation,
            batch_size=training.batch_size,
            seed=cell.seed,
            device=device,
        )
    withdraw(cell)
    made = {**recipe.metadata(), **watch.circumstances(device=describe_device(device), precision="float32")}
    table = exhibit_table(exhibits, experiment=cell.experiment, variant=cell.variant, seed=cell.seed)
    write_table(paths.inspection(cell), table, made)
    log.info("%s: %d arrays", cell, len(table))
