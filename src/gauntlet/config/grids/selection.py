"""Selections of variants: by name, or by conditions on the axes of the grids that made them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from gauntlet.config.components import Problem
from gauntlet.config.grids.axes import Axis, Grid, holds
from gauntlet.config.grids.reading import GridReader
from gauntlet.core.errors import nearest


def select_variants(
    selection: Sequence[object], variants: Collection[str], grids: Sequence[Grid], *, owners: Mapping[str, str]
) -> tuple[tuple[str, ...], list[Problem]]:
    """Return the selected variants, in the order of `variants`, and the problems at key paths below the selection.

    Each item is the name of a variant, or a condition: a mapping of axes to a level or a list of levels. A condition
    selects from every grid that has all of its axes. An item that selects no variant is a problem. `owners` maps
    candidates, which have no results, to the variants that may have their models.
    """
    chosen: set[str] = set()
    problems: list[Problem] = []
    for index, item in enumerate(selection):
        if isinstance(item, Mapping):
            matching, mistakes = _matching(item, index, grids)
            found = matching.intersection(variants)
            chosen |= found
            problems += mistakes
            if not found and not mistakes:
                problems.append(((index,), "the condition holds for no variant; correct it, or leave it out"))
        elif str(item) in variants:
            chosen.add(str(item))
        elif owner := owners.get(str(item)):
            problem = f"'{item}' is a candidate of '{owner}', and only the chosen one has results; name {owner}"
            problems.append(((index,), problem))
        else:
            problems.append(((index,), f"no variant '{item}'; {nearest(str(item), variants)}"))
    return tuple(name for name in variants if name in chosen), problems


def _matching(written: Mapping[object, object], index: int, grids: Sequence[Grid]) -> tuple[set[str], list[Problem]]:
    """Return the variants for which a condition holds; problems if no grid has its axes and levels."""
    axes: dict[str, Axis] = {axis.name: axis for grid in grids for axis in grid.axes}
    unknown = [str(name) for name in written if str(name) not in axes]
    if unknown:
        remedy = nearest(unknown[0], axes) if axes else "conditions are on axes, and no variant has `axes`"
        return set(), [((index, unknown[0]), f"no axis '{unknown[0]}'; {remedy}")]
    chosen: set[str] = set()
    problems: list[Problem] = []
    readable = False
    for grid in grids:
        if not {str(name) for name in written} <= {axis.name for axis in grid.axes}:
            continue
        reader = GridReader()
        # The reader's key paths begin with that of the list of conditions, which is the selection itself.
        (condition,) = reader.conditions([written], grid.axes, ())
        problems += [((index, *place[1:]), message) for place, message in reader.problems]
        if not reader.problems:
            readable = True
            chosen |= {name for name, levels in grid.variants.items() if holds(condition, levels)}
    if not problems and not readable:
        problems.append(((index,), "no grid has all of these axes; write one condition per grid"))
    return chosen, [] if readable else problems[:1]
