"""Units: the functions that dense and convolutional layers compute; one kind per file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gauntlet.learning.models.units.unit import Unit
from gauntlet.registry import UNITS


def build_unit(unit: Mapping[str, Any] | None) -> Unit:
    """Build a kind of unit from a mapping of `name` and options, by default linear."""
    options = dict(unit or {"name": "linear"})
    built: Unit = UNITS.load(str(options.pop("name")))(**options)
    return built
