"""Reasons why a cell whose files all exist is stale."""

from __future__ import annotations

from pathlib import Path

from gauntlet.config.grid import Cell
from gauntlet.core.provenance.recipes import recipe_from
from gauntlet.pipeline import paths
from gauntlet.pipeline.staleness import Plan, State
from gauntlet.pipeline.status.changes import Change, compare
from gauntlet.pipeline.status.metadata import file_metadata


def explain(plan: Plan, cell: Cell) -> list[Change]:
    """List what makes a cell stale: changes between its file's recipe and the current one, and stale inputs."""
    waits = [Change("waits", str(maker)) for maker in plan.upstream(cell) if plan.state(maker) is not State.CURRENT]
    has_all_inputs = plan.recipe(cell) is not None
    current = plan.outline(cell)
    outdated = plan.foreign(cell)
    if has_all_inputs and not outdated:
        return waits
    # The first product's recipe covers all files of the cell.
    first = paths.products(cell)[0]
    file = first if first in outdated else next((path for path in outdated if path.suffix != ".json"), first)
    stored = recipe_from(file_metadata(file))
    if stored is not None and stored.as_dict() != current.as_dict():
        experiment = plan.experiment(cell.experiment) if cell.experiment else None
        changes = compare(stored, current, cell, experiment, every_input=has_all_inputs)
        return [*changes, *waits] if changes or waits else [Change("unknown", f"{file} was made by another recipe")]
    if not has_all_inputs:
        return waits
    if stored is None:
        return [_without_recipe(plan, file), *waits]
    return [Change("unknown", f"{path} does not belong to the other files") for path in outdated] + waits


def _without_recipe(plan: Plan, path: Path) -> Change:
    if plan.marks(path).cell is None:
        return Change("unknown", f"{path} does not name its recipe")
    if path.suffix in (".parquet", ".safetensors"):
        return Change("unknown", f"{path} was made by another recipe, which it does not contain")
    return Change("unknown", "made from other inputs, settings or code")
