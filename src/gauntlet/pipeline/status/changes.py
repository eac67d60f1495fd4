"""What differs between the recipe that a file holds and the present one, named as the user knows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gauntlet.config.grid import Cell
from gauntlet.config.schema import Experiment
from gauntlet.core.provenance.recipes import Recipe

Kind = Literal["setting", "code", "input", "environment", "waits", "unknown"]


@dataclass(frozen=True)
class Absent:
    """Stands for a value on the side that has none."""

    def __str__(self) -> str:
        return "(none)"


ABSENT = Absent()


@dataclass(frozen=True)
class Change:
    """One thing that differs.

    `kind` is setting (`name` is a path in the configuration, below the experiment), code (a module), input (a file),
    environment (a package), waits (a cell that comes first), or unknown (`name` says what is known). `before` and
    `after` are values of settings and packages, hashes of code and inputs, ABSENT on the side that has none.
    """

    kind: Kind
    name: str
    before: Any = ABSENT
    after: Any = ABSENT

    def __str__(self) -> str:
        match self.kind:
            case "setting":
                return f"{self.name}: {_shown(self.before)} -> {_shown(self.after)}"
            case "environment":
                return f"environment, {self.name}: {_shown(self.before)} -> {_shown(self.after)}"
            case "code":
                return f"code {self.turned}: {self.name}"
            case "input":
                return f"input {self.turned}: {self.name}"
            case "waits":
                return f"waits for {self.name}"
            case _:
                return self.name

    @property
    def turned(self) -> str:
        """Say in one word what became of it."""
        if self.before is ABSENT:
            return "added"
        return "removed" if self.after is ABSENT else "changed"


def compare(
    before: Recipe, after: Recipe, cell: Cell, experiment: Experiment | None, *, every_input: bool = True
) -> list[Change]:
    """List what differs between two recipes of a cell.

    Without `every_input`, inputs that only `before` has are passed over: they are not there now and waited for.
    """
    found: list[Change] = []
    old, new = dict(_leaves(before.slice)), dict(_leaves(after.slice))
    for path, was, now in _differing(old, new):
        if path[0] == "environment":
            found.append(Change("environment", ".".join(path[1:]) or "strict_environment", was, now))
        elif cell.stage in ("aggregate", "figure", "table", "report") and path[0] != "experiment":
            found.append(Change("setting", _MADE_OF_ALL.get(path[0], path[0]), _brief(was), _brief(now)))
        else:
            found.append(Change("setting", named_path(cell, path, experiment), was, now))
    found += [Change("code", name, was, now) for name, was, now in _differing(before.modules, after.modules)]
    for name, was, now in _differing(before.inputs, after.inputs):
        if every_input or now is not ABSENT:
            found.append(Change("input", _INPUTS.get(name, name), was, now))
    return found


_MADE_OF_ALL = {
    "order": "the cells or their order",
    "attacks": "the attacks' settings",
    "settings": "the experiment's settings",
    "templates": "the page's templates",
    "variants": "variants",
    "shown": "titles or headline",
}
_INPUTS = {"cells": "what it is made of"}


def named_path(cell: Cell, path: tuple[str, ...], experiment: Experiment | None) -> str:
    """Spell a place in a cell's slice as the path, below the experiment, that the user finds in the file."""
    head, rest = path[0], path[1:]
    match cell.stage, head:
        case "prepare", "source":
            # A component's options stand beside its name.
            parts = ["dataset", *(["source"] if rest == ("name",) else rest)]
        case "prepare", _:
            parts = ["dataset", *path]
        case "train" | "inspect", "training":
            variant = experiment.variants.get(cell.variant) if experiment else None
            own = variant is not None and bool(rest) and rest[0] in variant.training.model_fields_set
            parts = [*(["variants", cell.variant] if own else []), *path]
        case "train", "model" | "loss":
            parts = ["variants", cell.variant, *path]
        case ("evaluate", "attack") | ("certify", "certificate"):
            parts = [f"{head}s", cell.name, *(rest[1:] if rest[:1] == (head,) else rest)]
        case _:
            parts = list(path)
    return ".".join(parts)


def _leaves(value: Mapping[str, Any], place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Flatten nested mappings; lists count as one value."""
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            yield from _leaves(item, (*place, str(key)))
        else:
            yield (*place, str(key)), item


def _differing(old: Mapping[Any, Any], new: Mapping[Any, Any]) -> Iterator[tuple[Any, Any, Any]]:
    for key in [*new, *(key for key in old if key not in new)]:
        was, now = old.get(key, ABSENT), new.get(key, ABSENT)
        # True equals 1 in Python, and 1 equals 1.0; in a recipe they differ.
        if was != now or type(was) is not type(now):
            yield key, was, now


def _brief(value: Any) -> Any:
    """Shorten a digest, which says nothing but that it differs."""
    return value[:8] if isinstance(value, str) and len(value) == 64 else value


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
