"""Declaration of the stage `effects`."""

from __future__ import annotations

from gauntlet.core.provenance.digests import digest_json
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import Cell, Files, Scope, Slice, Stage
from gauntlet.pipeline.stages.aggregate.declaration import aggregate_cell, summary_path


def _slice(cell: Cell, scope: Scope, _files: Files) -> Slice:
    return {"experiment": cell.experiment, "shown": digest_json(scope.settings.presentation())}


STAGE: Stage = Stage(
    name="effects",
    order=85,
    help="Write the tables of the effects of factors, for experiments with grids: LaTeX, Markdown, CSV.",
    needs="a grid among its `variants` (docs/ablations.md)",
    ids=("experiment",),
    cells=lambda scope: [Cell(STAGE, scope.name)] if scope.settings.measured_grids else [],
    inputs=lambda _cell, scope: {paths.effects(scope.name): aggregate_cell(scope.name)},
    outputs=lambda cell: tuple(paths.paper_table(cell.experiment, name) for name in paths.EFFECT_FILES),
    slice=_slice,
    setting_path=summary_path,
    shows_results=True,
    minutes=15,
    group="figures",
)
