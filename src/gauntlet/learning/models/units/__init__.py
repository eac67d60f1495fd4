"""Units: what a layer computes of its inputs, dense or as a convolution; one a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gauntlet.learning.models.units.unit import Unit
from gauntlet.registry import UNITS


def build_unit(unit: Mapping[str, Any] | None) -> Unit:
    """Build a kind of unit from its mapping (`name` and options; linear without one)."""
    options = dict(unit or {"name": "linear"})
    built: Unit = UNITS.load(str(options.pop("name")))(**options)
    return built
