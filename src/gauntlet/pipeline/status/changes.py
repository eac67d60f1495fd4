"""Differences between the recipe stored in a file and the current one, named as in the configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gauntlet.config.schema import Experiment
from gauntlet.core.provenance.recipes import Recipe
from gauntlet.pipeline.stage import Cell

Kind = Literal["setting", "code", "input", "environment", "waits", "unknown"]


@dataclass(frozen=True)
class Absent:
    """The value of a side that has none."""

    def __str__(self) -> str:
        return "(none)"


ABSENT = Absent()


@dataclass(frozen=True)
class Change:
    """One reason why a cell is stale.

    `kind` is setting (`name` is its path in the configuration, below the experiment), code (a module), input (a file),
    environment (a package), waits (an upstream cell), or unknown (`name` is a description). `before` and `after` are
    values of settings and packages, hashes of code and inputs, ABSENT on the side that has none.
    """

    kind: Kind
    name: str
    before: Any = ABSENT
    after: Any = ABSENT

    def __str__(self) -> str:
        match self.kind:
            case "setting":
                return f"{self.name}: {_as_text(self.before)} -> {_as_text(self.after)}"
            case "environment":
                return f"environment, {self.name}: {_as_text(self.before)} -> {_as_text(self.after)}"
            case "code":
                return f"code {self.verb}: {self.name}"
            case "input":
                return f"input {self.verb}: {self.name}"
            case "waits":
                return f"waits for {self.name}"
            case _:
                return self.name

    @property
    def verb(self) -> str:
        """The change in one word: added, removed or changed."""
        if self.before is ABSENT:
            return "added"
        return "removed" if self.after is ABSENT else "changed"


def compare(
    before: Recipe, after: Recipe, cell: Cell, experiment: Experiment | None, *, every_input: bool = True
) -> list[Change]:
    """List the differences between two recipes of a cell.

    Without `every_input`, inputs that only `before` has are skipped: their files are missing now and waited for.
    """
    changes: list[Change] = []
    old, new = dict(_leaves(before.slice)), dict(_leaves(after.slice))
    for path, old_value, new_value in _differences(old, new):
        if path[0] == "environment":
            changes.append(Change("environment", ".".join(path[1:]) or "strict_environment", old_value, new_value))
        else:
            name = ".".join(cell.stage.setting_path(cell, path, experiment))
            changes.append(Change("setting", name, _shorten(old_value), _shorten(new_value)))
    changes += [Change("code", name, *sides) for name, *sides in _differences(before.modules, after.modules)]
    for name, old_digest, new_digest in _differences(before.inputs, after.inputs):
        if every_input or new_digest is not ABSENT:
            changes.append(Change("input", _INPUTS.get(name, name), old_digest, new_digest))
    return changes


_INPUTS = {"cells": "the combined cells"}


def _leaves(value: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Flatten nested mappings; a list counts as one value."""
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            yield from _leaves(item, (*path, str(key)))
        else:
            yield (*path, str(key)), item


def _differences(old: Mapping[Any, Any], new: Mapping[Any, Any]) -> Iterator[tuple[Any, Any, Any]]:
    for key in [*new, *(key for key in old if key not in new)]:
        before, after = old.get(key, ABSENT), new.get(key, ABSENT)
        # True equals 1 in Python, and 1 equals 1.0; in a recipe they differ.
        if before != after or type(before) is not type(after):
            yield key, before, after


def _shorten(value: Any) -> Any:
    """Shorten a digest."""
    return value[:8] if isinstance(value, str) and len(value) == 64 else value


def _as_text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
