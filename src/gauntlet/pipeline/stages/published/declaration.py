"""Declaration of the stage `published`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from gauntlet.config.published import published_quantities
from gauntlet.core.provenance.digests import digest_json
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import Cell, Files, Scope, Slice, Stage
from gauntlet.pipeline.stages.aggregate.declaration import aggregate_cell, summary_path
from gauntlet.pipeline.stages.prepare.declaration import data_inputs
from gauntlet.pipeline.stages.train.declaration import measured_models


def published_cells(scope: Scope) -> list[Cell]:
    """Return the cell of an experiment with published numbers; none of any other."""
    return [Cell(STAGE, scope.name)] if scope.settings.published else []


def models_with_published_history(scope: Scope) -> Iterator[Cell]:
    """Yield the models with published columns of the training history."""
    quantities = published_quantities(scope.settings)
    variants = {variant for (variant, _), (quantity, _) in quantities.items() if quantity.kind == "history"}
    return (model for model in measured_models(scope) if model.variant in variants)


def _inputs(_cell: Cell, scope: Scope) -> Mapping[Path, Cell]:
    tables = (paths.evaluations, paths.certificates, paths.summary)
    aggregated = {path(scope.name): aggregate_cell(scope.name) for path in tables}
    return {
        **aggregated,
        **data_inputs(scope),
        **{paths.history(model): model for model in models_with_published_history(scope)},
    }


def _slice(cell: Cell, scope: Scope, _files: Files) -> Slice:
    settings = scope.settings
    numbers = settings.published.model_dump() if settings.published else {}
    return {
        "experiment": cell.experiment,
        "numbers": digest_json(numbers),
        "shown": digest_json(settings.presentation()),
    }


def _setting_path(cell: Cell, path: tuple[str, ...], settings: object) -> tuple[str, ...]:
    return ("published",) if path[0] == "numbers" else summary_path(cell, path, settings)


STAGE: Stage = Stage(
    name="published",
    order=86,
    help="Write the table of published numbers next to the measured ones, for experiments that have the key.",
    needs="the key `published`",
    ids=("experiment",),
    cells=published_cells,
    inputs=_inputs,
    outputs=lambda cell: (
        paths.published(cell.experiment),
        *(paths.paper_table(cell.experiment, name) for name in paths.PUBLISHED_FILES),
    ),
    slice=_slice,
    setting_path=_setting_path,
    summarizes_inputs=True,
    tolerates_missing=True,
    shows_results=True,
    minutes=15,
    group="figures",
)
