"""Successes of minimum-norm attacks that the judge refuses, moved outward until it accepts them."""

from __future__ import annotations

import torch
from torch import Tensor

from gauntlet.core.arithmetic import float32_arithmetic
from gauntlet.core.geometry import distances
from gauntlet.robustness.attacks.base.model import OUTWARD, AttackModel
from gauntlet.robustness.evaluation.sample_results import SampleResults


def move_outward(results: SampleResults, model: AttackModel, samples: Tensor, points: Tensor) -> None:
    """Move points `(A, C, H, W)` that fool the attacked copy but not the judge outward; record those that fool it.

    The nearest success is on the boundary of the copy, which differs from that of the judge by rounding or, for a
    random model, by other draws. Without this, a sample that is fooled at a small distance would count as robust at
    every distance. Points that do not fool the copy either are failures of the attack, and stay so. For a random model
    these are the images themselves: whether another point was a success depended on draws that are not known here.

    In a transfer nothing is moved, since the attacked model is not queried.
    """
    if model.transfers or results.attack.epsilons is not None:
        return
    changed = (points != results.x[samples]).flatten(1).any(1)
    samples, points = samples[changed], points[changed]
    x = results.x[samples]
    refused = torch.arange(len(samples), device=x.device)
    if len(samples) and not model.judge.is_random:
        model.start_counting(len(samples))
        with float32_arithmetic(model.arithmetic):
            refused = (model.logits(points).argmax(1) != results.y[samples]).nonzero()[:, 0]
        results.counts["forwards"][samples] += model.counts.totals["forwards"]
    for share in OUTWARD:
        if not len(refused):
            return
        origins = x[refused]
        moved = (origins + (1 + share) * (points[refused] - origins)).clamp_(0.0, 1.0)
        logits = model.judge.logits(moved)
        valid, size = logits.isfinite().all(1), distances(moved - origins)[results.attack.norm]
        fooled = results.record_point(samples[refused], moved, logits, valid, size, passes=model.judge.draws)
        refused = refused[~fooled]
