"""Declaration of the stage `table`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import Cell, Files, FromResults, Scope, Slice, Stage
from gauntlet.pipeline.stages.aggregate.declaration import aggregate_cell, summary_path


def _inputs(_cell: Cell, scope: Scope) -> Mapping[Path, Cell]:
    tables = (paths.evaluations, paths.certificates, paths.summary, paths.certified, paths.comparisons)
    return {path(scope.name): aggregate_cell(scope.name) for path in tables}


def _slice(cell: Cell, scope: Scope, _files: Files) -> Slice:
    settings = scope.settings
    return {"experiment": cell.experiment, "variants": list(settings.measured), "shown": settings.presentation()}


STAGE: Stage = Stage(
    name="table",
    order=80,
    command="tables",
    help="Write the tables of a paper: LaTeX with a macro per number, Markdown, CSV.",
    ids=("experiment",),
    cells=lambda scope: [Cell(STAGE, scope.name)],
    inputs=_inputs,
    outputs=lambda cell: tuple(paths.paper_table(cell.experiment, name) for name in paths.TABLE_FILES),
    slice=_slice,
    setting_path=summary_path,
    shows_results=True,
    from_results=FromResults("gauntlet.reporting.from_results:tables_from_results", out="tables"),
    minutes=15,
    group="figures",
)
