"""Checks of the places of a grid: each has an axis, each axis is used, and parts of longer texts are scalars."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from gauntlet.config.components import KeyPath, Problem
from gauntlet.config.grids.axes import Axis
from gauntlet.config.grids.places import (
    CANDIDATES,
    CHOSEN_FROM,
    parameters_of,
    places_in,
    texts_with_places,
    whole_place,
)
from gauntlet.config.grids.reading import AXES
from gauntlet.core.errors import nearest


def place_problems(name: str, template: Mapping[Any, Any], axes: Sequence[Axis]) -> Iterator[Problem]:
    """Yield places without an axis, axes without a place in the name or in a value, and levels that cannot be text."""
    known = {axis.name: axis for axis in axes}
    for place in places_in(name):
        if place not in known:
            yield (), f"the name's place '{{{place}}}' has no axis; {nearest(place, known)}"
    used: set[str] = set()
    parameters = parameters_of(template)
    for axis in axes:
        if axis.name in parameters:
            yield (AXES, axis.name), f"a parameter of `{CANDIDATES}` has this name too; rename one of them"
    yield from _checked(template, (), known, known, used, parameters)
    for number, axis in enumerate(axes):
        later = [other.name for other in axes[number + 1 :]]
        for level in axis.levels:
            yield from _checked(level.value, (AXES, axis.name, *level.key_path), known, later, used, parameters)
    for axis_name in known:
        place = f"'{{{axis_name}}}'"
        if axis_name not in places_in(name):
            yield (AXES, axis_name), f"the axis is not used: the name has no place {place}"
        elif axis_name not in used:
            yield (
                (AXES, axis_name),
                f"the axis is not used: no value has the place {place}, so all levels are alike",
            )


def _checked(
    value: Any,
    start: KeyPath,
    known: Mapping[str, Axis],
    allowed: Collection[str],
    used: set[str],
    parameters: Collection[str],
) -> Iterator[Problem]:
    for place, text in texts_with_places(value):
        is_title = not start and place == ("title",)
        is_name = not start and place[:1] == (CHOSEN_FROM,)
        for axis in (name for name in places_in(text) if name not in parameters):
            if axis not in known:
                yield (*start, *place), f"the place '{{{axis}}}' has no axis; {nearest(axis, [*known, *parameters])}"
            elif axis not in allowed:
                yield (*start, *place), f"a level can have places of axes below its own only, and '{axis}' is none"
            elif not is_title:
                used.add(axis)
                if not is_name and whole_place(text) is None and (problem := _no_text(known[axis])):
                    yield (*start, *place), f"'{{{axis}}}' is part of a longer text, {problem}"


def _no_text(axis: Axis) -> str | None:
    """Return a message if a level of an axis cannot be a part of a longer text."""
    for level in axis.levels:
        if isinstance(level.value, Mapping | list):
            return f"and its level '{level.label}' is no scalar; make the place the whole value"
        if isinstance(level.value, str) and places_in(level.value):
            return f"and its level '{level.label}' has places itself; make the place the whole value"
    return None
