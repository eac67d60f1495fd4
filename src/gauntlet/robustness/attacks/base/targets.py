"""Target classes of targeted attacks."""

from __future__ import annotations

import torch
from torch import Tensor

from gauntlet.robustness.attacks.base.losses import TARGETED_LOSSES, likeliest_targets
from gauntlet.robustness.attacks.base.model import AttackModel

_CANDIDATES = 9
_DUAL_ORDERS = {"linf": 1.0, "l2": 2.0, "l1": float("inf")}


def nearest_targets(model: AttackModel, x: Tensor, y: Tensor, *, norm: str, count: int) -> Tensor:
    """Return the `count` classes whose boundaries are nearest to first order, nearest first: int64 `(B, T)`.

    The distance to class t is (z_y - z_t) / ||gradient of z_t - z_y||, in the dual norm, for the outputs z of the
    current surrogate at x `(B, C, H, W)`; it is exact for an affine model. The candidates are the 9 likeliest classes,
    at a cost of a forward and a backward each, and are not ordered where all of them are targets. T is at most K - 1.
    Source: Moosavi-Dezfooli, Fawzi, Frossard 2016, arXiv:1511.04599.
    """
    logits = model.logits(x)
    candidates = likeliest_targets(logits, y, max(count, _CANDIDATES))
    if candidates.shape[1] <= count:
        return candidates
    loss, distances = TARGETED_LOSSES["margin"], []
    for targets in candidates.T:
        result = model.gradients(x, y, loss, targets=targets)
        gap = -loss.value(result.outputs, y, targets).double()
        slope = torch.linalg.vector_norm(result.gradient.double().flatten(1), ord=_DUAL_ORDERS[norm], dim=1)
        distances.append(torch.where(slope > 0, gap / slope, torch.inf))
    order = torch.stack(distances, 1).argsort(dim=1, stable=True)[:, :count]
    return candidates.gather(1, order)
