"""From the results of an experiment to its table of published and measured numbers."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from gauntlet.config.published import Quantity, published_quantities
from gauntlet.config.schema import Experiment
from gauntlet.core.files import write_text
from gauntlet.core.parquet import read_metadata, read_table, write_table
from gauntlet.core.provenance.recipes import recipe_mark
from gauntlet.learning.data.manifest import load_data_manifest
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import Cell, CellJob
from gauntlet.pipeline.stages.budgets import in_pixels
from gauntlet.pipeline.stages.outputs import withdraw
from gauntlet.pipeline.stages.published.declaration import models_with_published_history
from gauntlet.pipeline.stages.train.chosen import KEPT_EPOCH
from gauntlet.reporting.aggregation import design_from_config
from gauntlet.reporting.tables.published_files import render_published
from gauntlet.reporting.tables.published_rows import KeptEpochs, PublishedEntry, measure_published

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
        values = number.value, number.std, number.seeds, number.note
        yield PublishedEntry(variant, text, quantity.kind, quantity.name, budget, quantity.is_share, *values)


def _in_pixels(quantity: Quantity, settings: Experiment, pixels: Experiment) -> float | None:
    if quantity.kind != "attack" or quantity.budget is None:
        return quantity.budget
    epsilons, in_pixel_units = (form.attacks[quantity.name].epsilons for form in (settings, pixels))
    return in_pixel_units[epsilons.index(quantity.budget)] if epsilons and in_pixel_units else quantity.budget


def _histories(job: CellJob) -> Mapping[str, KeptEpochs]:
    """Read the kept epochs of the models whose histories have published columns."""
    samples = load_data_manifest(paths.data_folder(paths.dataset_id(job.experiment.dataset))).sizes.get("validation", 0)
    models: dict[str, list[Cell]] = {}
    for model in models_with_published_history(job.scope):
        models.setdefault(model.variant, []).append(model)
    return {
        variant: KeptEpochs([row for cell in cells if (row := _kept_row(job, cell))], len(cells), samples)
        for variant, cells in models.items()
    }


def _kept_row(job: CellJob, model: Cell) -> dict[str, Any] | None:
    """Return the row of the epoch whose weights a model has; None without one."""
    path = paths.history(model)
    if path not in job.inputs:
        return None
    kept = read_metadata(path).get(f"gauntlet.{KEPT_EPOCH}")
    rows: list[dict[str, Any]] = read_table(path).to_pylist()
    return next((row for row in rows if str(row["epoch"]) == kept), None)
