"""Piecewise constant learning rate schedule by shares of training, per step."""

from __future__ import annotations

from gauntlet.registry import SCHEDULES, Fraction, OpenFraction


@SCHEDULES.register("piecewise", per="step", source="Rice, Wong, Kolter 2020, arXiv:2002.11569")
def piecewise(
    epoch: float, epochs: int, *, shares: tuple[OpenFraction, ...] = (0.5, 0.75), factor: Fraction = 0.1
) -> float:
    """Multiply the learning rate by `factor` after each of the given shares of training, in steps.

    The defaults are the paper's: by 10 after half of the epochs, and again after three quarters.
    """
    return factor ** sum(epoch / epochs >= share for share in shares)
