"""Linear units."""

from __future__ import annotations

from gauntlet.learning.models.units.unit import Unit
from gauntlet.registry import UNITS


@UNITS.register("linear", source="Rosenblatt 1958")
class LinearUnit(Unit):
    """W x + b."""
