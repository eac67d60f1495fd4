"""Reasons why a cell whose files all exist is stale."""

from __future__ import annotations

from pathlib import Path

from gauntlet.core.provenance.recipes import recipe_from
from gauntlet.pipeline.stage import Cell
from gauntlet.pipeline.staleness import Staleness, State
from gauntlet.pipeline.status.changes import Change, compare
from gauntlet.pipeline.status.metadata import file_metadata


def explain(staleness: Staleness, cell: Cell) -> list[Change]:
    """List what makes a cell stale: changes between its file's recipe and the current one, and stale inputs."""
    waits = [
        Change("waits", str(maker))
        for maker in staleness.graph.upstream(cell)
        if staleness.state(maker) is not State.CURRENT
    ]
    has_all_inputs = staleness.recipe(cell) is not None
    current = staleness.outline(cell)
    outdated = staleness.mismatched(cell)
    if has_all_inputs and not outdated:
        return waits
    # The first product's recipe covers all files of the cell.
    first = cell.outputs[0]
    file = first if first in outdated else next((path for path in outdated if path.suffix != ".json"), first)
    stored = recipe_from(file_metadata(file))
    if stored is not None and stored.as_dict() != current.as_dict():
        experiment = staleness.graph.experiment(cell.experiment) if cell.experiment else None
        changes = compare(stored, current, cell, experiment, every_input=has_all_inputs)
        return [*changes, *waits] if changes or waits else [Change("unknown", f"{file} was made by another recipe")]
    if not has_all_inputs:
        return waits
    if stored is None:
        return [_without_recipe(staleness, file), *waits]
    return [Change("unknown", f"{path} does not belong to the other files") for path in outdated] + waits


def _without_recipe(staleness: Staleness, path: Path) -> Change:
    if staleness.marks(path).recipe is None:
        return Change("unknown", f"{path} does not name its recipe")
    if path.suffix in (".parquet", ".safetensors"):
        return Change("unknown", f"{path} was made by another recipe, which it does not contain")
    return Change("unknown", "made from other inputs, settings or code")
