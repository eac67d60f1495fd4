"""Reading of a grid's own keys, `axes`, `except` and `only`, with every mistake at its key path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from gauntlet.config.components import KeyPath, Problem
from gauntlet.config.error_texts import found_text
from gauntlet.config.grids.axes import Axis, Condition, Level
from gauntlet.config.grids.levels import NAME, NAME_TEXT, Refused, read_level
from gauntlet.config.grids.places import scalar_text
from gauntlet.core.errors import nearest

AXES, EXCEPT, ONLY = "axes", "except", "only"
OWN_KEYS: Mapping[str, str] = {
    AXES: "mapping of axes to their levels; each axis has a place `{axis}` in the grid's name and in a value",
    EXCEPT: "conditions: combinations for which one of them holds are left out",
    ONLY: "conditions: only combinations for which one of them holds are kept",
}
"""Keys of a grid that its variants do not have, with their meanings."""

AXIS_KEYS: Mapping[str, str] = {
    "levels": "list of levels: scalars, components `{name: ..., ...}`, or mappings with `value`; without `when` the "
    "list is written in place of this mapping",
    "when": "condition, or list of conditions, on axes above this one: elsewhere the axis does not exist",
}
"""Keys of an axis that exists under a condition, with their meanings."""

T = TypeVar("T")


class GridReader:
    """Reads the keys of one grid; `problems` are the mistakes, at key paths below the grid."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def axes(self, written: Any) -> tuple[Axis, ...]:
        """Read `axes`: a mapping of names to levels, or to `{when: ..., levels: [...]}`."""
        if not isinstance(written, Mapping) or not written:
            self._refuse((AXES,), f"expected a mapping of axes to their levels, got {found_text(written)}")
            return ()
        axes: list[Axis] = []
        for name, value in written.items():
            place = (AXES, str(name))
            if not NAME.fullmatch(str(name)):
                self._refuse(place, f"the name of an axis is {NAME_TEXT}")
            axes.append(self._axis(str(name), value, place, axes))
        return tuple(axes)

    def conditions(self, written: Any, axes: Sequence[Axis], place: KeyPath) -> tuple[Condition, ...]:
        """Read a list of conditions, each a mapping of axes to a level or a list of levels."""
        if not isinstance(written, list):
            self._refuse(place, f"expected a list of conditions such as {{axis: level}}, got {found_text(written)}")
            return ()
        return tuple(self._condition(item, axes, (*place, index)) for index, item in enumerate(written))

    def _axis(self, name: str, written: Any, place: KeyPath, before: Sequence[Axis]) -> Axis:
        when: tuple[Condition, ...] = ()
        levels, levels_place = written, place
        if isinstance(written, Mapping):
            for key in written:
                if key not in AXIS_KEYS:
                    self._refuse((*place, str(key)), f"unknown key; {nearest(str(key), AXIS_KEYS)}")
                    return Axis(name, ())
            levels, levels_place = written.get("levels"), (*place, "levels")
            if "when" in written:
                value, when_place = written["when"], (*place, "when")
                if isinstance(value, Mapping):
                    when = (self._condition(value, before, when_place, " above this one"),)
                else:
                    when = self.conditions(value, before, when_place)
        if not isinstance(levels, list) or not levels:
            expected = "a list of levels" if levels is not written else "a list of levels, or {when: ..., levels: ...}"
            self._refuse(levels_place, f"expected {expected}, got {found_text(levels)}")
            return Axis(name, (), when)
        start = () if levels is written else ("levels",)
        read = [self._tried(read_level, item, index, levels_place, start) for index, item in enumerate(levels)]
        self._refuse_equal_labels(read, levels_place)
        return Axis(name, tuple(level for level in read if level is not None), when)

    def _tried(self, read: Callable[..., T], *arguments: Any) -> T | None:
        """Return what a function reads; None, and a problem, if it refuses."""
        try:
            return read(*arguments)
        except Refused as refused:
            self.problems.append(refused.problem)
            return None

    def _condition(self, written: Any, axes: Sequence[Axis], place: KeyPath, which: str = "") -> Condition:
        if not isinstance(written, Mapping) or not written:
            self._refuse(place, f"expected a condition such as {{axis: level}}, got {found_text(written)}")
            return {}
        condition: dict[str, frozenset[int]] = {}
        known = {axis.name: axis for axis in axes}
        for name, value in written.items():
            axis = known.get(str(name))
            if axis is None:
                self._refuse((*place, str(name)), f"no axis '{name}'{which}; {nearest(str(name), known)}")
            elif axis.levels:
                chosen = value if isinstance(value, list) else [value]
                if not chosen:
                    self._refuse((*place, str(name)), "the list of levels is empty")
                orders = [self._tried(_order, item, axis, (*place, str(name))) for item in chosen]
                condition[axis.name] = frozenset(order for order in orders if order is not None)
        return condition

    def _refuse_equal_labels(self, levels: Sequence[Level | None], place: KeyPath) -> None:
        labels: dict[str, Level] = {}
        for level in levels:
            if level is not None and (other := labels.setdefault(level.label, level)) is not level:
                named = f"two levels, {other.order} and {level.order}, are called '{level.label}'"
                self._refuse((*place, level.order), f"{named}; give one of them another `label`")

    def _refuse(self, place: KeyPath, message: str) -> None:
        self.problems.append((place, message))


def _order(written: Any, axis: Axis, place: KeyPath) -> int:
    """Return the order of the level that has a label, a scalar value, or a title. Raises Refused if there is none."""
    for level in axis.levels:
        if isinstance(written, str) and written == level.label:
            return level.order
    for level in axis.levels:
        if _same(level.value, written):
            return level.order
    titled = [level.order for level in axis.levels if isinstance(written, str) and written == level.title]
    if len(titled) == 1:
        return titled[0]
    labels = [level.label or level.title for level in axis.levels]
    text = found_text(written) if isinstance(written, Mapping | list) else scalar_text(written)
    raise Refused(place, f"the axis '{axis.name}' has no level '{text}'; {nearest(text, labels)}")


def _same(value: Any, written: Any) -> bool:
    """Compare scalars: 1 is 1.0, and neither is true."""
    if isinstance(value, Mapping | list) or isinstance(value, bool) is not isinstance(written, bool):
        return False
    return bool(value == written)


def conditions_without_effect(
    conditions: Sequence[Condition], matched: Sequence[bool], place: KeyPath
) -> Iterator[Problem]:
    """Yield each condition that holds for no combination, so that it would be a silent mistake."""
    for index, (condition, any_match) in enumerate(zip(conditions, matched, strict=True)):
        if condition and not any_match:
            yield (*place, index), "the condition holds for no combination; correct it, or leave it out"
