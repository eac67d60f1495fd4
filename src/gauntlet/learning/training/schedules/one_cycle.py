"""One-cycle learning rate schedule, per step."""

from __future__ import annotations

import math
from typing import Literal

from gauntlet.registry import SCHEDULES, Fraction, OpenFraction


@SCHEDULES.register("one_cycle", per="step", source="Smith and Topin 2018, arXiv:1708.07120")
def one_cycle(
    epoch: float,
    epochs: int,
    *,
    peak: OpenFraction = 0.3,
    start: Fraction = 0.04,
    end: Fraction = 0.000004,
    shape: Literal["cosine", "linear"] = "cosine",
) -> float:
    """Raise the learning rate from `start` times the optimizer's to the optimizer's, then lower it to `end` times it.

    The peak is after the share `peak` of training. The defaults are those of PyTorch's OneCycleLR, whose first step has
    the rate `start`, here that before the first step; the momentum is constant. `shape: linear, peak: 0.4, start: 0,
    end: 0` is the schedule of Wong, Rice, Kolter 2020 (arXiv:2001.03994).
    """
    share = epoch / epochs
    first, last, progress = (start, 1.0, share / peak) if share < peak else (1.0, end, (share - peak) / (1 - peak))
    eased = 0.5 * (1 - math.cos(math.pi * progress)) if shape == "cosine" else progress
    return first + (last - first) * eased
