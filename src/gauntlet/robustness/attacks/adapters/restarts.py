"""Restarts of a library's attack, which by itself runs once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gauntlet.core.geometry import distances
from gauntlet.robustness.attacks.base.ascent import KeptPoints
from gauntlet.robustness.attacks.base.model import AttackModel

Restart = Callable[[Tensor, int], Tensor]
"""Runs restart number i on the samples at rows, int64 `(A,)`: returns their points `(A, C, H, W)`."""


def restart_bounded(model: AttackModel, x: Tensor, y: Tensor, run: Restart, *, restarts: int) -> Tensor:
    """Return the points `(B, C, H, W)` of restarts, each on the samples that are still robust.

    In a transfer these are robust for the sources. A sample without success keeps the point that `KeptPoints` chooses.
    """
    kept = KeptPoints(model, x, runs=restarts)
    robust = torch.arange(len(x), device=x.device)
    for restart in range(restarts):
        points = run(robust, restart)
        with model.subset(robust):
            kept.keep(robust, points, y[robust])
            if restart == restarts - 1:
                break
            fooled = _fooled(model, points, y[robust], beyond_chance=True)
        robust = robust[~fooled]
        if not len(robust):
            break
    return kept.points


def restart_nearest(model: AttackModel, x: Tensor, y: Tensor, run: Restart, *, restarts: int, norm: str) -> Tensor:
    """Return the nearest success of all restarts, `(B, C, H, W)`, and the last point where none succeeds."""
    nearest, rows = x.clone(), torch.arange(len(x), device=x.device)
    min_distance = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
    for restart in range(restarts):
        points = run(rows, restart)
        fooled = _fooled(model, points, y, beyond_chance=False)
        distance = torch.where(fooled, distances(points - x)[norm], torch.inf)
        replaced = (distance < min_distance) | (min_distance.isinf() & ~fooled)
        nearest[replaced] = points[replaced]
        min_distance = torch.minimum(distance, min_distance)
    return nearest


def _fooled(model: AttackModel, x: Tensor, y: Tensor, *, beyond_chance: bool) -> Tensor:
    if model.transfers:
        return model.misclassified(model.logits(x), x, y)
    return model.confirm(x, y, beyond_chance=beyond_chance)
