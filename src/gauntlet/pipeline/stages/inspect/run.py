"""From a trained network to arrays that its parts compute."""

from __future__ import annotations

import logging

from gauntlet.core.parquet import write_table
from gauntlet.core.provenance.run_metadata import Stopwatch
from gauntlet.learning.data.stored_images import open_split
from gauntlet.learning.models.weights import load_model
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import CellJob
from gauntlet.pipeline.stages.device import describe_device, device_metadata, open_device
from gauntlet.pipeline.stages.outputs import withdraw
from gauntlet.pipeline.stages.train.chosen import network_variant
from gauntlet.pipeline.stages.train.declaration import model_of
from gauntlet.robustness.inspection.arrays import array_table
from gauntlet.robustness.inspection.inspector import inspect_network
from gauntlet.robustness.inspection.training_negatives import training_negatives

log = logging.getLogger("gauntlet")


def run(job: CellJob) -> None:
    """Inspect one model, recompute the first negatives that it was trained on, if any, and publish the table."""
    watch = Stopwatch()
    cell, settings = job.cell, job.experiment
    device = open_device(job.execution)
    folder = paths.data_folder(paths.dataset_id(settings.dataset))
    network = load_model(paths.model_folder(cell), device=device)
    arrays = inspect_network(network, open_split(folder, "test"), device=device)
    training = settings.training_of(network_variant(model_of(cell), settings))
    if training.negatives is not None:
        arrays += training_negatives(
            training.negatives,
            open_split(folder, "train"),
            augmentation=training.augmentation,
            batch_size=training.batch_size,
            seed=cell.seed,
            device=device,
        )
    withdraw(cell)
    made = {
        **job.recipe.metadata(),
        **watch.run_metadata(**device_metadata(job.execution, describe_device(device), precision="float32")),
    }
    table = array_table(arrays, experiment=cell.experiment, variant=cell.variant, seed=cell.seed)
    write_table(paths.inspection(cell), table, made)
    log.info("%s: %d arrays", cell, len(table))
