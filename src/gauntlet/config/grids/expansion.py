"""Expansion of the grids of an experiment, as it is written, to ordinary variants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gauntlet.config.components import Problem
from gauntlet.config.grids.axes import Axis, Grid, Levels, combinations, holds, kept
from gauntlet.config.grids.levels import NAME, NAME_TEXT
from gauntlet.config.grids.place_checks import place_problems
from gauntlet.config.grids.places import (
    CHOSEN_FROM,
    NAME_SEPARATORS,
    TITLE_SEPARATORS,
    fill,
    parameters_of,
    places_in,
    substituted,
)
from gauntlet.config.grids.reading import (
    AXES,
    EXCEPT,
    ONLY,
    OWN_KEYS,
    GridReader,
    conditions_without_effect,
)
from gauntlet.core.errors import shortened

VARIANTS = "variants"
CELLS_AT_MOST = "cells_at_most"
MOST_CELLS = 10_000
"""Cells that an experiment with grids may have where `cells_at_most` is not set."""

_MOST_COMBINATIONS = 1_000_000
"""Combinations of levels that are listed before `except` and `only` exclude some of them."""

_MAX_NAME = 64


@dataclass
class Expansion:
    """An experiment whose grids are ordinary variants, and the problems found, at key paths below the experiment.

    `templates` maps the name of each grid to what is written there, without the grid's own keys. A grid with a problem
    makes no variants.
    """

    experiment: Any
    grids: list[Grid] = field(default_factory=list)
    templates: dict[str, Mapping[Any, Any]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def grid_of(self, variant: str) -> Grid | None:
        """Return the grid that made a variant; None for one that is written out."""
        return next((grid for grid in self.grids if variant in grid.variants), None)


def is_grid(name: str, written: Any) -> bool:
    """Return whether an entry of `variants` is a grid: its name has places, or it has a key that only grids have."""
    return bool(places_in(name)) or (isinstance(written, Mapping) and not OWN_KEYS.keys().isdisjoint(written))


def expand(experiment: Any) -> Expansion:
    """Replace each grid of an experiment by its variants, in its place; the input is not changed.

    Values that are no mappings are left for the schema to refuse.
    """
    written = experiment.get(VARIANTS) if isinstance(experiment, Mapping) else None
    if not isinstance(written, Mapping) or not any(is_grid(str(key), value) for key, value in written.items()):
        return Expansion(experiment)
    limit = experiment.get(CELLS_AT_MOST, MOST_CELLS)
    most = limit if isinstance(limit, int) and not isinstance(limit, bool) else MOST_CELLS
    expansion = Expansion(experiment)
    variants: dict[Any, Any] = {}
    makers: dict[str, str] = {}
    for key, value in written.items():
        name = str(key)
        made = {key: value}
        if is_grid(name, value):
            grid, made, problems = _expanded(name, value, most)
            expansion.problems += [((VARIANTS, name, *place), message) for place, message in problems]
            expansion.grids.append(grid)
            expansion.templates[name] = _template(value)
        twice = next((variant for variant in made if str(variant) in makers), None)
        if twice is not None:
            other = makers[str(twice)]
            problem = f"the grid '{other}' makes a variant of this name too"
            if is_grid(name, value):
                problem = f"it makes '{twice}', and so does '{other}'"
            expansion.problems.append(((VARIANTS, name), f"{problem}; rename one of them"))
        makers |= dict.fromkeys(map(str, made), name)
        variants |= made
    expansion.experiment = {**experiment, VARIANTS: variants}
    return expansion


def _template(written: Any) -> dict[Any, Any]:
    return {key: value for key, value in written.items() if key not in OWN_KEYS} if isinstance(written, Mapping) else {}


def _expanded(name: str, written: Any, most: int) -> tuple[Grid, dict[str, Any], list[Problem]]:
    """Expand one grid; also return its variants as plain mappings, and its problems at key paths below it."""
    grid, problems = _read(name, written, most)
    if problems:
        return Grid(name, ()), {}, problems
    template = _template(written)
    return grid, {variant: _variant(template, grid.axes, levels) for variant, levels in grid.variants.items()}, []


def _read(name: str, written: Any, most: int) -> tuple[Grid, list[Problem]]:
    """Read a grid and name its combinations; it is incomplete if there are problems."""
    if problem := _form_problem(name, written):
        return Grid(name, ()), [((), problem)]
    reader = GridReader()
    axes = reader.axes(written[AXES])
    if not axes:
        return Grid(name, ()), reader.problems
    only, excluded = (reader.conditions(written[key], axes, (key,)) if key in written else () for key in (ONLY, EXCEPT))
    problems = reader.problems or list(place_problems(name, _template(written), axes))
    if problems:
        return Grid(name, axes), problems
    every = combinations(axes, most=_MOST_COMBINATIONS)
    if every is None:
        problem = f"the axes have more than {_MOST_COMBINATIONS} combinations; split the grid"
        return Grid(name, axes), [((AXES,), problem)]
    for conditions, key in ((only, ONLY), (excluded, EXCEPT)):
        matched = [any(holds(condition, levels) for levels in every) for condition in conditions]
        problems += conditions_without_effect(conditions, matched, (key,))
    chosen = [levels for levels in every if kept(levels, only, excluded)]
    problems = problems or list(_size_problems(len(chosen), most))
    named, name_problems = ({}, []) if problems else _named(name, chosen)
    return Grid(name, axes, named, len(every) - len(chosen)), problems + name_problems


def _form_problem(name: str, written: Any) -> str | None:
    """Return a message if an entry with a part of a grid lacks another."""
    if not isinstance(written, Mapping):
        return "a name with places is a grid, and needs a mapping with `axes`"
    if not places_in(name):
        keys = ", ".join(f"`{key}`" for key in OWN_KEYS)
        return f"the name of a grid has a place '{{axis}}' for each axis ({keys} are keys of grids)"
    if AXES not in written:
        example = f"axes: {{{places_in(name)[0]}: [...]}}"
        return f"the name has places, so it is a grid and needs the key `axes`, such as {example}"
    return None


def _size_problems(chosen: int, most: int) -> Iterator[Problem]:
    if not chosen:
        yield (), f"`{EXCEPT}` and `{ONLY}` exclude every combination, so the grid makes no variant"
    if chosen > most:
        remedy = f"restrict it with `{ONLY}`, or set `{CELLS_AT_MOST}` of the experiment"
        yield (), f"the grid makes {chosen} variants, and {most} cells are allowed; {remedy}"


def _named(name: str, chosen: Sequence[Levels]) -> tuple[dict[str, Levels], list[Problem]]:
    """Name each combination; combinations of one name, and names that are none, are problems."""
    named: dict[str, Levels] = {}
    for levels in chosen:
        variant = fill(name, {axis: level.label for axis, level in levels.items()}, NAME_SEPARATORS)
        if variant in named:
            both = f"{_in_words(named[variant])}, and {_in_words(levels)}"
            remedy = "set a `label` of their levels, or separate the places of the name"
            return named, [((), f"two combinations are called '{variant}': {both}; {remedy}")]
        if not NAME.fullmatch(variant) or len(variant) > _MAX_NAME:
            expected = f"{NAME_TEXT}, and has at most {_MAX_NAME} characters; set a `label` of long levels"
            return named, [((), f"{_in_words(levels)} is called '{variant}'; expected {expected}")]
        named[variant] = levels
    return named, []


def _in_words(levels: Levels) -> str:
    return shortened((f"{axis} {level.label or level.title}" for axis, level in levels.items()), most=4)


def _variant(template: Mapping[Any, Any], axes: Sequence[Axis], levels: Levels) -> dict[str, Any]:
    """Return the variant of one combination as if it was written out.

    Without a title of its own it has one made of its levels' titles, if any level of the grid sets a title.
    """
    values = {key: item for key, item in template.items() if key != "title"}
    variant: dict[str, Any] = substituted(values, levels, parameters_of(template))
    if isinstance(names := template.get(CHOSEN_FROM), list):
        labels = {axis: level.label for axis, level in levels.items()}
        variant[CHOSEN_FROM] = [
            fill(item, labels, NAME_SEPARATORS) if isinstance(item, str) else item for item in names
        ]
    titles = {axis: level.title for axis, level in levels.items()}
    title = template.get("title")
    if isinstance(title, str):
        variant["title"] = fill(title, titles, TITLE_SEPARATORS)
    elif title is not None:
        variant["title"] = title
    elif any(level.has_title for axis in axes for level in axis.levels):
        variant["title"] = ", ".join(titles.values())
    return variant
