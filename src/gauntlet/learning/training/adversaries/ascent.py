"""Projected gradient ascent, the inner loop of adversarial training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gauntlet.core.geometry import Ball, direction


def ascend(objective: Callable[[Tensor], Tensor], start: Tensor, ball: Ball, *, steps: int, step_size: float) -> Tensor:
    """Run projected gradient ascent on `objective`, a sum over samples; each step is projected to ball and box.

    `start` and the result are `(B, C, H, W)`. A step takes one forward and one backward pass, with respect to the
    images only.
    """
    x = start.detach()
    for _ in range(steps):
        with torch.enable_grad():
            leaf = x.requires_grad_(True)
            (gradient,) = torch.autograd.grad(objective(leaf), leaf)
        x = ball.project(leaf.detach() + step_size * direction(gradient, ball.norm))
    return x
