"""Descriptions of grids for `gauntlet check`: their axes, levels and variants."""

from __future__ import annotations

from collections.abc import Iterator

from gauntlet.config.grids.axes import Axis, Condition, Grid, Level
from gauntlet.core.errors import shortened

_MOST_LEVELS = 20
_MOST_NAMES = 12


def grid_table(grid: Grid) -> Iterator[str]:
    """Yield the lines of a table: the levels of each axis, and the names of the variants."""
    count = len(grid.variants)
    yield f"{grid.name}: {count} variant{'' if count == 1 else 's'}, {grid.excluded} excluded"
    width = max(len("variants"), *(len(axis.name) for axis in grid.axes))
    for axis in grid.axes:
        texts = shortened(map(_level_text, axis.levels), most=_MOST_LEVELS)
        yield f"  {axis.name:{width}}  {texts}{_when(axis, grid)}"
    yield f"  {'variants':{width}}  {shortened(grid.variants, most=_MOST_NAMES)}"


def _level_text(level: Level) -> str:
    if not level.label:
        return f"{level.title} (not in names)"
    return level.label if level.label == level.title else f"{level.label} ({level.title})"


def _when(axis: Axis, grid: Grid) -> str:
    return f"  where {' or '.join(_condition(condition, grid) for condition in axis.when)}" if axis.when else ""


def _condition(condition: Condition, grid: Grid) -> str:
    axes = {axis.name: axis for axis in grid.axes}
    parts = []
    for name, orders in condition.items():
        labels = [level.label or level.title for level in axes[name].levels if level.order in orders]
        parts.append(f"{name} is {' or '.join(labels)}")
    return " and ".join(parts)
