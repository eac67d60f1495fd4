"""Comparisons of budgets, which people write with few digits."""

from __future__ import annotations

import math

CLOSE = 1e-3
"""Relative distance below which two budgets are equal: 8/255 may be written 0.0314, and 0.01 in normalized units is a
little less or more in pixels."""


def is_close(budget: float, other: float) -> bool:
    """Return whether two budgets are equal up to the rounding of a written number."""
    return math.isclose(budget, other, rel_tol=CLOSE)


def reaches(steps: int, step_size: float, epsilon: float) -> bool:
    """Return whether `steps` of a size in L-infinity lead from an image to the edge of its ball, up to rounding."""
    return steps * step_size >= epsilon or is_close(steps * step_size, epsilon)
