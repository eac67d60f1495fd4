"""Quadratic units."""

from __future__ import annotations

from gauntlet.learning.models.units.second_order import SecondOrderUnit
from gauntlet.registry import UNITS


@UNITS.register("quadratic", source="Le 2019, journal of logic-inspired networks")
class QuadraticUnit(SecondOrderUnit):
    """W x + b - a V (x * x) + a: the elliptical unit with V of any sign; a is the strength of a ramp.

    The strength rises by `increment` per training step from `start` (negative: a delay) to `stop`.
    """

    positive = False
