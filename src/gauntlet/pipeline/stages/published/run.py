"""From the results of an experiment to its table of published and measured numbers."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from gauntlet.config.published import Quantity, published_quantities
from gauntlet.config.schema import Experiment
from gauntlet.core.files import write_text
from gauntlet.core.parquet import read_metadata, read_table, write_table
from gauntlet.core.provenance.recipes import recipe_mark
from gauntlet.learning.data.manifest import load_data_manifest
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import CellJob
from gauntlet.pipeline.stages.budgets import in_pixels
from gauntlet.pipeline.stages.outputs import withdraw
from gauntlet.pipeline.stages.published.declaration import models_with_published_history
from gauntlet.pipeline.stages.train.chosen import KEPT_EPOCH
from gauntlet.reporting.aggregation import design_from_config
from gauntlet.reporting.tables.published_files import render_published
from gauntlet.reporting.tables.published_histories import Histories
from gauntlet.reporting.tables.published_rows import PublishedEntry, measure_published

log = logging.getLogger("gauntlet")


def run(job: CellJob) -> None:
    """Write the table of published numbers of one experiment. Raises InputError for a budget that is left open."""
    cell, name, settings = job.cell, job.cell.experiment, job.experiment
    if settings.published is None:  # no cell of this stage then
        return
    rows = measure_published(
        settings.published.reference,
        list(_entries(settings)),
        evaluations=paths.evaluations(name),
        certificates=paths.certificates(name),
        summary=read_table(paths.summary(name)),
        histories=_histories(job),
    )
    design = design_from_config(name, settings)
    texts = render_published(rows, design.titles, mark=recipe_mark(job.recipe.digest))
    withdraw(cell)
    first, *others = cell.outputs
    for path in others:
        write_text(path, texts[path.name])
    # The first file records what made them all, and is written last.
    write_table(first, rows, {**job.recipe.metadata(), **design.metadata()})
    log.info("%s: %s", cell, ", ".join(map(str, cell.outputs)))


def _entries(settings: Experiment) -> Iterator[PublishedEntry]:
    """Yield the published numbers, budgets in pixel units."""
    pixels = in_pixels(settings)
    for (variant, text), (quantity, number) in published_quantities(settings).items():
        budget = _in_pixels(quantity, settings, pixels)
        values = number.value, number.std, number.seeds, number.note, quantity.epoch
        yield PublishedEntry(variant, text, quantity.kind, quantity.name, budget, quantity.is_share, *values)


def _in_pixels(quantity: Quantity, settings: Experiment, pixels: Experiment) -> float | None:
    if quantity.kind != "attack" or quantity.budget is None:
        return quantity.budget
    epsilons, in_pixel_units = (form.attacks[quantity.name].epsilons for form in (settings, pixels))
    return in_pixel_units[epsilons.index(quantity.budget)] if epsilons and in_pixel_units else quantity.budget


def _histories(job: CellJob) -> Mapping[str, Histories]:
    """Read the training histories of the models that have published columns of it."""
    samples = load_data_manifest(paths.data_folder(paths.dataset_id(job.experiment.dataset))).sizes.get("validation", 0)
    models: dict[str, list[Path]] = {}
    for model in models_with_published_history(job.scope):
        models.setdefault(model.variant, []).append(paths.history(model))
    return {variant: _variant_histories(files, job, samples) for variant, files in models.items()}


def _variant_histories(files: Sequence[Path], job: CellJob, samples: int) -> Histories:
    """Read the histories of one variant; those that are missing are left out."""
    present = [path for path in files if path in job.inputs]
    kept = [read_metadata(path).get(f"gauntlet.{KEPT_EPOCH}") for path in present]
    return Histories(
        [read_table(path).to_pylist() for path in present],
        [None if epoch is None else int(epoch) for epoch in kept],
        planned=len(files),
        samples=samples,
    )
