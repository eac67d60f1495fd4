"""Axes, their levels, and the combinations of them that a grid has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gauntlet.config.components import KeyPath


@dataclass(frozen=True)
class Level:
    """One level of an axis.

    `label` is its part of a variant's name, empty for a level that names leave out; `title` is its text in figures and
    tables, `has_title` whether the file sets it. `order` is its position in the axis, from 0. `key_path` leads from the
    axis to `value`, a plain value as written, in which places of later axes are not filled.
    """

    label: str
    value: Any
    title: str
    order: int
    key_path: KeyPath = ()
    has_title: bool = False


Levels = Mapping[str, Level]
"""One combination: the level of each axis that exists in it."""

Condition = Mapping[str, frozenset[int]]
"""The levels, by their order, that each named axis must have one of."""


@dataclass(frozen=True)
class Axis:
    """An axis with its levels; it exists where one of the conditions `when` holds, or everywhere if there are none."""

    name: str
    levels: tuple[Level, ...]
    when: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class Grid:
    """A grid and the variants that it made.

    `name` is the name with places. `variants` maps the name of each variant to its levels by axis, in the order of the
    axes; variants that a quick form removed are not among them. `excluded` counts the combinations that `except` and
    `only` exclude.
    """

    name: str
    axes: tuple[Axis, ...]
    variants: Mapping[str, Levels] = field(default_factory=dict)
    excluded: int = 0

    @property
    def is_varied(self) -> bool:
        """Return whether its variants have two levels of an axis; a quick form may have removed all others."""
        orders = (
            {levels[axis.name].order for levels in self.variants.values() if axis.name in levels} for axis in self.axes
        )
        return any(len(present) > 1 for present in orders)

    def as_dict(self) -> dict[str, Any]:
        """Return the factors of the results as plain values: names, levels with titles and values, and variants."""
        axes = {
            axis.name: [{"label": level.label, "title": level.title, "value": level.value} for level in axis.levels]
            for axis in self.axes
        }
        variants = {
            variant: {axis: level.order for axis, level in levels.items()} for variant, levels in self.variants.items()
        }
        return {"name": self.name, "axes": axes, "variants": variants}


def holds(condition: Condition, levels: Levels) -> bool:
    """Return whether a combination has a level of each axis that a condition names, and one that it allows."""
    return all(axis in levels and levels[axis].order in orders for axis, orders in condition.items())


def combinations(axes: Sequence[Axis], *, most: int) -> list[Levels] | None:
    """List all combinations of levels, the first axis varying slowest; None if there are more than `most`."""
    found: list[Levels] = [{}]
    for axis in axes:
        if not axis.when and len(found) * len(axis.levels) > most:
            return None
        found = [longer for levels in found for longer in _with_axis(levels, axis)]
        if len(found) > most:
            return None
    return found


def _with_axis(levels: Levels, axis: Axis) -> Iterator[Levels]:
    if axis.when and not any(holds(condition, levels) for condition in axis.when):
        yield levels
    else:
        yield from ({**levels, axis.name: level} for level in axis.levels)


def kept(levels: Levels, only: Iterable[Condition], excluded: Iterable[Condition]) -> bool:
    """Return whether a combination is part of a grid with these conditions."""
    wanted = list(only)
    if wanted and not any(holds(condition, levels) for condition in wanted):
        return False
    return not any(holds(condition, levels) for condition in excluded)
