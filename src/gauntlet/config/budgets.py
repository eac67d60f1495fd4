"""Budgets and step sizes that no image of pixels in [0, 1] can use."""

from __future__ import annotations

import math

from gauntlet.core.budgets import is_close

LINF_ABOVE_1 = "pixels are in [0, 1], so a linf budget is at most 1"
"""Message about a larger one."""


def largest_distance(norm: str, values: int) -> float:
    """Return the largest distance between two images of `values` pixel values: of a black and a white one."""
    return {"linf": 1.0, "l2": math.sqrt(values)}.get(norm, float(values))


def step_size_problem(step_size: object, epsilon: object) -> str | None:
    """Return a message if a step is longer than the diameter of the ball of radius `epsilon`; None if not, or unknown.

    Fast adversarial training steps 1.25 epsilon from a random point of the ball, so a step may be longer than epsilon.
    """
    if not isinstance(step_size, int | float) or not isinstance(epsilon, int | float):
        return None
    if step_size <= 2 * epsilon or is_close(step_size, 2 * epsilon):
        return None
    problem = f"a step of {step_size:g} crosses the whole ball of the largest budget, {epsilon:g}"
    return f"{problem}; choose {2 * epsilon:g} or less"
