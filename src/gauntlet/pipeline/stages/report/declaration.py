"""Declaration of the stage `report`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gauntlet.core.provenance.digests import digest_file, digest_json
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import Cell, Files, FromResults, Scope, Slice, Stage
from gauntlet.pipeline.stages.aggregate.declaration import aggregate_cell, summary_path
from gauntlet.pipeline.stages.figure.declaration import STAGE as FIGURE
from gauntlet.pipeline.stages.published.declaration import published_cells
from gauntlet.registry.source_code import module_file

UNMARKED = (".csv", ".md")
"""Tables that carry no metadata; the page reads the others."""


def _inputs(_cell: Cell, scope: Scope) -> Mapping[Path, Cell]:
    aggregate = aggregate_cell(scope.name)
    tables = [path for path in paths.aggregates(scope.name) if path.suffix not in UNMARKED]
    drawings = {paths.figure(scope.name, figure.name, "svg"): figure for figure in FIGURE.cells(scope)}
    published = {paths.published(scope.name): cell for cell in published_cells(scope)}
    return {**dict.fromkeys(tables, aggregate), **published, **drawings}


def _slice(cell: Cell, scope: Scope, files: Files) -> Slice:
    headline = scope.settings.presentation().get("headline")
    left_out = [str(other) for other in files.left_out(cell.experiment)]
    return {
        "experiment": cell.experiment,
        "settings": digest_json(scope.settings.as_dict()),
        "templates": _templates(),
        # It is read from the metadata of the results, which are in no digest; so are titles, which figures have too.
        **({"headline": headline} if headline else {}),
        **({"left_out": digest_json(left_out)} if left_out else {}),
    }


def _templates() -> str:
    """Return the digest of the page's templates, which decide its bytes and are no modules."""
    package = module_file("gauntlet.reporting.page")
    files = sorted((package.parent / "templates").iterdir()) if package else []
    return digest_json({path.name: digest_file(path) for path in files})


STAGE: Stage = Stage(
    name="report",
    order=90,
    help="Write the page that shows everything.",
    ids=("experiment",),
    cells=lambda scope: [Cell(STAGE, scope.name)],
    inputs=_inputs,
    outputs=lambda cell: (paths.report(cell.experiment),),
    slice=_slice,
    setting_path=summary_path,
    summarizes_inputs=True,
    shows_results=True,
    from_results=FromResults("gauntlet.reporting.from_results:report_from_results", out="report.html"),
    minutes=15,
    group="figures",
    rules=("page",),
)
