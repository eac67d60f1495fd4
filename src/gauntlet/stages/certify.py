"""Stage `certify`: one certificate of one model, a row per sample."""

from __future__ import annotations

import logging

import pyarrow.compute as pc

from gauntlet import paths
from gauntlet.certificates import certify
from gauntlet.config import Cell
from gauntlet.data.splits import to_unit
from gauntlet.data.store import load_split
from gauntlet.evaluation import CellIdentity
from gauntlet.models.weights import load_model
from gauntlet.planning import Plan
from gauntlet.progress import progress
from gauntlet.provenance.circumstances import Stopwatch
from gauntlet.provenance.recipes import Recipe
from gauntlet.registry import CERTIFICATES
from gauntlet.results import write_table
from gauntlet.stages.device import describe_device, open_device
from gauntlet.stages.publishing import withdraw

log = logging.getLogger("gauntlet")


def run(plan: Plan, cell: Cell, recipe: Recipe) -> None:
    """Certify every correctly classified test image of one model and publish the radii."""
    watch = Stopwatch()
    settings = plan.experiment(cell.experiment)
    certificate = settings.certificates[cell.probe].certificate
    device = open_device(plan.config.execution)
    network = load_model(paths.model_folder(cell.model), device=device)
    split = load_split(paths.data_folder(paths.dataset_id(settings.dataset)), "test")
    images, labels = to_unit(split.images[: settings.samples]), split.labels[: settings.samples]
    with progress(str(cell), len(images), "samples") as report:
        rows = certify(
            network,
            images,
            labels,
            certificate,
            name=cell.probe,
            norm=CERTIFICATES.entry(certificate.name).tags["norms"][0],
            identity=CellIdentity(cell.experiment, cell.variant, cell.seed),
            device=device,
            progress=report,
        )
    withdraw(cell)
    made = {**recipe.metadata(), **watch.circumstances(device=describe_device(device), precision="float32")}
    write_table(paths.samples(cell), rows, made)
    log.info("%s: mean radius %.4f in %s", cell, pc.mean(rows["radius"]).as_py(), rows["norm"][0].as_py())
