"""Elliptical units."""

from __future__ import annotations

from gauntlet.learning.models.units.second_order import SecondOrderUnit
from gauntlet.registry import UNITS


@UNITS.register("elliptical", closed=True, source="Le 2019, journal of logic-inspired networks")
class EllipticalUnit(SecondOrderUnit):
    """W x + b - a |V| (x * x) + a: positive inside an ellipsoid only; a is the strength of a ramp.

    The strength rises by `increment` per training step from `start` (negative: a delay) to `stop`.
    """

    positive = True
